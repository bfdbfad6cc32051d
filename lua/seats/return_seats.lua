#!lua flags=allow-oom
--[[ Put the seats of an ended order back on sale: refunded, cancelled or never paid.
  Called only after PostgreSQL gave the seats up. Atomic, and keyed by the hold and the state it is
  expected in: a second call finds no record and changes nothing, so it can never free a seat its next
  owner holds; a call that was overtaken by a late payment finds the hold sold and leaves it alone.
  A hold that is past its time has expired, whether or not the reaper has been here. What became free is
  announced.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 sold      string  bit per seat: claimed or sold
        4 expiry    zset    tails of hold ids by the instant they are due, ms
  ARGV  1 hold_id  2 seats another order owns, packed 2 bytes each: these stay as they are
        3 states the hold may be in, as letters of its record: 'c' unpaid, 's' refunded, 'x' expired
        4 now_ms ('' = server time)
  RETURNS  returned {version} | nothing_to_return | inventory_rebuilding
  COST  at most 11 commands ]]
-- include: tail_of
-- include: now_ms
-- include: read_record
-- include: unpack_seats
-- include: put_seats
-- include: span_of
-- include: read_piece
-- include: write_piece
-- include: announce_freed

-- Read
local tail = tail_of(ARGV[1])
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version', tail)
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local record = read_record(terms[3])
local now = now_ms(ARGV[4])

-- Decide
local is_over = record and record.state == 'h' and record.expires_at_ms <= now
if not record or not string.find(ARGV[3], is_over and 'x' or record.state, 1, true) then
  return { 'nothing_to_return' }
end
local all, kept, seats = unpack_seats(record.seats), {}, {}
for _, seat in ipairs(unpack_seats(ARGV[2])) do
  kept[seat] = not is_over -- what was only held is no order's
end
for _, seat in ipairs(all) do
  if not kept[seat] then
    seats[#seats + 1] = seat
  end
end
local taken, sold = read_piece(KEYS[2], seats), read_piece(KEYS[3], seats)
if not (taken and sold) then
  return { 'inventory_rebuilding' }
end

-- Write
local version = tonumber(terms[2]) + 1
redis.call('HSET', KEYS[1], 'version', version)
redis.call('HINCRBY', KEYS[1], record.buyer, 0 - #all) -- not -#all: minus zero is no integer to Redis
redis.call('HDEL', KEYS[1], tail)
redis.call('ZREM', KEYS[4], tail)
write_piece(taken, seats, 0)
write_piece(sold, seats, 0)
if #seats > 0 then
  announce_freed(KEYS[1], version)
end
return { 'returned', version }
