#!lua
--[[ Keep free seats off public sale.
  Atomic because a seat must not be held and blocked at once.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 blocked   string  bit per seat: kept off public sale; absent until one is
  ARGV  1 seats, packed 2 bytes each
  RETURNS  blocked {version} | seat_taken {taken plane, version} | inventory_rebuilding
  COST  at most 6 commands ]]
-- include: unpack_seats
-- include: has_seat
-- include: put_seats

-- Read
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'seat_count')
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local seats = unpack_seats(ARGV[1])
local plane = redis.call('GETRANGE', KEYS[2], 0, -1)
if #plane * 8 < tonumber(terms[3]) then
  return { 'inventory_rebuilding' }
end
local blocked = redis.call('GETRANGE', KEYS[3], 0, -1)

-- Decide: blocking a blocked seat again is fine, so a repeat is safe.
for _, seat in ipairs(seats) do
  if has_seat(plane, 0, seat) and not has_seat(blocked, 0, seat) then
    return { 'seat_taken', plane, tonumber(terms[2]) }
  end
end

-- Write: first what needs memory. The plane of blocked seats comes into being with the first of them.
if blocked == '' then
  blocked = string.rep('\0', #plane)
end
redis.call('SETRANGE', KEYS[3], 0, put_seats(blocked, 0, seats, 1))
redis.call('SETRANGE', KEYS[2], 0, put_seats(plane, 0, seats, 1))
local version = tonumber(terms[2]) + 1
redis.call('HSET', KEYS[1], 'version', version)
return { 'blocked', version }
