#!lua
--[[ Give the owner of a hold more time, never beyond the hold's longest life and never less than it had.
  Atomic because the hold could expire or be claimed between the look and the change.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 expiry    zset    tails of hold ids by the instant they are due, ms
  ARGV  1 hold_id  2 buyer_id  3 ttl_ms  4 lifetime_ms_max  5 now_ms ('' = server time)
        6 latest_ms: too late after this instant of the same clock ('' = never)
  RETURNS  extended {expires_at_ms} | inventory_rebuilding | not_found | hold_lost | hold_expired
           | hold_claimed | hold_not_extendable {expires_at_ms} | too_late {now_ms}
  COST  at most 4 commands ]]
-- include: tail_of
-- include: now_ms
-- include: read_record
-- include: write_record

-- Read
local tail = tail_of(ARGV[1])
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'losses_until_ms', tail)
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local record = read_record(terms[3])
local now = now_ms(ARGV[5])

-- Decide
if ARGV[6] ~= '' and now > tonumber(ARGV[6]) then
  return { 'too_late', now }
end
if not record then
  return { tonumber(terms[2] or '0') > now and 'hold_lost' or 'not_found' }
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
local expires_at_ms = math.min(now + tonumber(ARGV[3]), record.created_at_ms + tonumber(ARGV[4]))
if expires_at_ms <= record.expires_at_ms then
  return { 'hold_not_extendable', record.expires_at_ms }
end

-- Write
record.expires_at_ms = expires_at_ms
redis.call('HSET', KEYS[1], tail, write_record(record))
redis.call('ZADD', KEYS[2], expires_at_ms, tail)
return { 'extended', expires_at_ms }
