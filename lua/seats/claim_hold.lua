#!lua flags=allow-oom
--[[ Turn a hold into the claim of an order, and put the claim on the partition's log.
  Atomic because a claim without its log entry would keep seats nobody will ever pay for, and an entry
  without the claim could lose its seats to an expiry. From here on PostgreSQL judges the deadline, so
  the hold leaves the expiry set. A hold's key used again makes the same hold id once more: what has other
  seats than the log entry is not the hold its order was made of.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 sold      string  bit per seat: claimed or sold
        3 expiry    zset    tails of hold ids by the instant they are due, ms
        4 log       stream  order log of the partition
  ARGV  1 hold_id  2 buyer_id  3 pay_by_ms  4 now_ms ('' = server time)  5 log entry
        6 seats of the log entry, packed 2 bytes each, in the hold's own order
        7 latest_ms: too late after this instant of the same clock ('' = never)
  RETURNS  claimed {log id, version} | already_claimed | inventory_rebuilding | not_found | hold_lost
           | hold_expired | too_late {now_ms}
  LOG  claim
  COST  at most 7 commands ]]
-- include: tail_of
-- include: now_ms
-- include: read_record
-- include: write_record
-- include: unpack_seats
-- include: put_seats
-- include: span_of
-- include: read_piece
-- include: write_piece

-- Read
local tail = tail_of(ARGV[1])
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'losses_until_ms', tail)
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local record = read_record(terms[4])
local now = now_ms(ARGV[4])

-- Decide
if ARGV[7] ~= '' and now > tonumber(ARGV[7]) then
  return { 'too_late', now }
end
if not record then
  return { tonumber(terms[3] or '0') > now and 'hold_lost' or 'not_found' }
end
if record.buyer ~= ARGV[2] then
  return { 'not_found' }
end
if record.state == 'c' or record.state == 's' then
  return { 'already_claimed' }
end
if record.state == 'x' or record.expires_at_ms <= now then
  return { 'hold_expired' }
end
if record.seats ~= ARGV[6] then
  return { 'not_found' }
end
local seats = unpack_seats(record.seats)
local sold = read_piece(KEYS[2], seats)
if not sold then
  return { 'inventory_rebuilding' }
end

-- Write
local log_id = redis.call('XADD', KEYS[4], '*', 'kind', 'claim', 'data', ARGV[5])
local version = tonumber(terms[2]) + 1
record.state = 'c'
record.expires_at_ms = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'version', version, tail, write_record(record))
redis.call('ZREM', KEYS[3], tail)
write_piece(sold, seats, 1)
return { 'claimed', log_id, version }
