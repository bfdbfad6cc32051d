#!lua flags=no-writes
--[[ One hold, for its owner.
  Atomic because the state and the clock it is judged by must be of one instant.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
  ARGV  1 hold_id  2 buyer_id  3 now_ms ('' = server time)
  RETURNS  hold {state 'held', 'claimed' or 'sold', expires_at_ms, packed seats} | not_found | hold_lost
           | hold_expired | inventory_rebuilding
  COST  at most 2 commands ]]
-- include: tail_of
-- include: now_ms
-- include: read_record

-- Read
local tail = tail_of(ARGV[1])
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'losses_until_ms', tail)
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local record = read_record(terms[3])
local now = now_ms(ARGV[3])

-- Decide
if not record then
  return { tonumber(terms[2] or '0') > now and 'hold_lost' or 'not_found' }
end
if record.buyer ~= ARGV[2] then
  return { 'not_found' }
end
if record.state == 'x' or (record.state == 'h' and record.expires_at_ms <= now) then
  return { 'hold_expired' }
end
local names = { h = 'held', c = 'claimed', s = 'sold' }
return { 'hold', names[record.state], record.expires_at_ms, record.seats }
