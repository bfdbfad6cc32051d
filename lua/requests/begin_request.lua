#!lua flags=allow-oom
--[[ Begin a request that must take effect once, or hand over what it answered before.
  Atomic because two twins must not both be the first.
  KEYS  1 request  string  'fingerprint' while running, then 'fingerprint', newline, the answer
  ARGV  1 fingerprint  2 lease_ms: how long a running request keeps its twins away
  RETURNS  begun | repeated {answer} | request_in_progress | idempotency_key_reused
  COST  at most 2 commands ]]
local known = redis.call('GET', KEYS[1])
if not known then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return { 'begun' }
end
local length = #ARGV[1]
if string.sub(known, 1, length) ~= ARGV[1] then
  return { 'idempotency_key_reused' }
end
if #known == length then
  return { 'request_in_progress' }
end
return { 'repeated', string.sub(known, length + 2) }
