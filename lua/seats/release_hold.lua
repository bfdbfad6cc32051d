#!lua flags=allow-oom
--[[ Let go of a hold its owner no longer wants.
  Atomic because the seats must become free and the hold disappear in one step, and only for its owner.
  What became free is announced.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 expiry    zset    tails of hold ids by the instant they are due, ms
  ARGV  1 hold_id  2 buyer_id  3 now_ms ('' = server time)
  RETURNS  released {version} | inventory_rebuilding | not_found | hold_lost | hold_expired | hold_claimed
  COST  at most 9 commands ]]
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
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'losses_until_ms', tail)
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local record = read_record(terms[4])
local now = now_ms(ARGV[3])

-- Decide
if not record then
  return { tonumber(terms[3] or '0') > now and 'hold_lost' or 'not_found' }
end
if record.buyer ~= ARGV[2] then
  return { 'not_found' }
end
if record.state == 'c' or record.state == 's' then
  return { 'hold_claimed' }
end
if record.state == 'x' or record.expires_at_ms <= now then
  return { 'hold_expired' }
end
local seats = unpack_seats(record.seats)
local taken = read_piece(KEYS[2], seats)
if not taken then
  return { 'inventory_rebuilding' }
end

-- Write
local version = tonumber(terms[2]) + 1
redis.call('HSET', KEYS[1], 'version', version)
redis.call('HINCRBY', KEYS[1], record.buyer, -#seats)
redis.call('HDEL', KEYS[1], tail)
redis.call('ZREM', KEYS[3], tail)
write_piece(taken, seats, 0)
announce_freed(KEYS[1], version)
return { 'released', version }
