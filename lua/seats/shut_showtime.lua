#!lua flags=allow-oom
--[[ Refuse every verb about a showtime until a rebuild has restored it: scripts of an older epoch too.
  Atomic because a rebuild that was overtaken must not shut what a later one has restored. Whoever asks for
  the owners of its seats after this has heard of every order that was made before.
  KEYS  1 showtime  hash  terms, holds by tail of their id, seats per buyer id
  RETURNS  showtime_shut | not_found | inventory_rebuilding
  COST  at most 2 commands ]]
-- include: is_newer
local known = redis.call('HGET', KEYS[1], 'epoch')
if not known then
  return { 'not_found' }
end
if is_newer(known, EPOCH) then
  return { 'inventory_rebuilding' }
end
redis.call('HSET', KEYS[1], 'epoch', '-' .. EPOCH)
return { 'showtime_shut' }
