#!lua flags=allow-oom
--[[ Begin to build a showtime's seat map anew, beside the one that is there.
  Atomic because what an older rebuild left must be gone before the first piece of this one comes, and a newer
  one must not lose its own. What is built is shut by its epoch, the negative of ours, and nobody reads it.
  KEYS  1 showtime        hash    terms, holds by tail of their id, seats per buyer id
        2 expiry          zset    tails of hold ids by the instant they are due, ms
        3 building        hash    the same as showtime, of the map that is being built
        4 building_expiry zset    the same as expiry
  ARGV  1 now_ms ('' = server time)
  RETURNS  restore_begun {now_ms, version of the map that is there (0 = none is), number of tails in expiry}
           | inventory_rebuilding
  COST  at most 6 commands ]]
-- include: is_newer
-- include: now_ms

-- Read
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version')

-- Decide
if is_newer(terms[1], EPOCH) or is_newer(redis.call('HGET', KEYS[3], 'epoch'), EPOCH) then
  return { 'inventory_rebuilding' }
end

-- Write
redis.call('UNLINK', KEYS[3], KEYS[4])
redis.call('HSET', KEYS[3], 'epoch', '-' .. EPOCH)
return { 'restore_begun', now_ms(ARGV[1]), tonumber(terms[2] or '0'), redis.call('ZCARD', KEYS[2]) }
