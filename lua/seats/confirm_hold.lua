#!lua flags=allow-oom
--[[ Turn held or claimed seats into sold ones, and put the sale on the partition's log.
  Atomic because a sale without its log entry would be paid for and never become a ticket. Repeating it
  changes no seat; the entry is written again, because a repeat means nobody has seen it arrive, and the
  order writer takes an entry twice as once. A hold's key used again makes the same hold id once more: what is
  not claimed under the deadline of the order that was paid, and has not the very seats it is of, is not what
  was paid for.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 sold      string  bit per seat: claimed or sold
        3 expiry    zset    tails of hold ids by the instant they are due, ms
        4 log       stream  order log of the partition
  ARGV  1 hold_id  2 buyer_id  3 log entry
        4 pay_by_ms of the claim that is meant ('' = whatever has the seats that are meant)
        5 those seats, packed 2 bytes each ('' with a pay_by_ms)
  RETURNS  confirmed {log id, version} | already_confirmed {log id, version} | inventory_rebuilding
           | not_found
  LOG  confirm
  COST  at most 6 commands ]]
-- include: tail_of
-- include: in_order
-- include: read_record
-- include: write_record
-- include: unpack_seats
-- include: put_seats
-- include: span_of
-- include: read_piece
-- include: write_piece

-- Read
local tail = tail_of(ARGV[1])
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version', tail)
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local record = read_record(terms[3])

-- Decide: an expired hold owns nothing any more, whoever paid for it. The seats of a claim may stand in
-- another order than its order's: a rebuild has them from PostgreSQL.
if not record or record.buyer ~= ARGV[2] or record.state == 'x' then
  return { 'not_found' }
end
local is_meant
if ARGV[4] == '' then
  is_meant = in_order(record.seats) == in_order(ARGV[5])
else
  is_meant = record.state == 'c' and record.expires_at_ms == tonumber(ARGV[4])
end
if record.state ~= 's' and not is_meant then
  return { 'not_found' }
end
local seats = unpack_seats(record.seats)
local sold = record.state == 's' or read_piece(KEYS[2], seats)
if not sold then
  return { 'inventory_rebuilding' }
end

-- Write
local version = tonumber(terms[2])
local log_id = redis.call('XADD', KEYS[4], '*', 'kind', 'confirm', 'data', ARGV[3])
if record.state == 's' then
  return { 'already_confirmed', log_id, version }
end
record.state = 's'
version = version + 1
redis.call('HSET', KEYS[1], 'version', version, tail, write_record(record))
redis.call('ZREM', KEYS[3], tail)
write_piece(sold, seats, 1)
return { 'confirmed', log_id, version }
