#!lua flags=allow-oom
--[[ Tidy up: free the seats of holds past their time, bury what was left of older ones.
  Atomic because a hold must not be extended or claimed while it is being freed. Bounded: the caller
  comes back while there is more. What became free is announced.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 expiry    zset    tails of hold ids by the instant they are due, ms
  ARGV  1 now_ms ('' = server time)  2 holds_max
  RETURNS  swept {holds freed, entries handled} | inventory_rebuilding
  COST  at most 8 + 3 × holds_max commands ]]
-- include: now_ms
-- include: read_record
-- include: write_record
-- include: unpack_seats
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
local now = now_ms(ARGV[1])
local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[2])
if #due == 0 then
  return { 'swept', 0, 0 }
end
local records, seats = {}, {}
for place, packed in ipairs(redis.call('HMGET', KEYS[1], unpack(due))) do
  local record = read_record(packed)
  records[place] = record
  for _, seat in ipairs(record and record.state == 'h' and unpack_seats(record.seats) or {}) do
    seats[#seats + 1] = seat
  end
end
local taken = read_piece(KEYS[2], seats)
if not taken then
  return { 'inventory_rebuilding' }
end

-- Write
local freed = 0
for place, tail in ipairs(due) do
  local record = records[place]
  if record and record.state == 'h' then
    redis.call('HINCRBY', KEYS[1], record.buyer, -#record.seats / 2)
    record.state, record.seats = 'x', ''
    redis.call('HSET', KEYS[1], tail, write_record(record))
    redis.call('ZADD', KEYS[3], now + 600000, tail)
    freed = freed + 1
  else
    if record and record.state == 'x' then
      redis.call('HDEL', KEYS[1], tail)
    end
    redis.call('ZREM', KEYS[3], tail)
  end
end
if freed > 0 then
  local version = tonumber(terms[2]) + 1
  redis.call('HSET', KEYS[1], 'version', version)
  write_piece(taken, seats, 0)
  announce_freed(KEYS[1], version)
end
return { 'swept', freed, #due }
