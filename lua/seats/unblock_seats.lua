#!lua flags=allow-oom
--[[ Put blocked seats back on public sale.
  Atomic because only a seat that is really blocked may become free: a held or sold one must not.
  What became free is announced.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 blocked   string  bit per seat: kept off public sale; absent until one is
  ARGV  1 seats, packed 2 bytes each
  RETURNS  unblocked {version} | seat_not_blocked | inventory_rebuilding
  COST  at most 8 commands ]]
-- include: unpack_seats
-- include: has_seat
-- include: put_seats
-- include: span_of
-- include: read_piece
-- include: write_piece
-- include: announce_freed

-- Read
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version')
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local seats = unpack_seats(ARGV[1])
local blocked = redis.call('GETRANGE', KEYS[3], 0, -1)

-- Decide
for _, seat in ipairs(seats) do
  if not has_seat(blocked, 0, seat) then
    return { 'seat_not_blocked' }
  end
end
local taken, kept_off = read_piece(KEYS[2], seats), read_piece(KEYS[3], seats)
if not (taken and kept_off) then
  return { 'inventory_rebuilding' }
end

-- Write
local version = tonumber(terms[2]) + 1
redis.call('HSET', KEYS[1], 'version', version)
write_piece(taken, seats, 0)
write_piece(kept_off, seats, 0)
if #seats > 0 then
  announce_freed(KEYS[1], version)
end
return { 'unblocked', version }
