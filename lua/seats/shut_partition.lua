#!lua flags=allow-oom
--[[ Believe nothing of a partition until a rebuild has made it anew: the rebuild's second step.
  Atomic because a rebuild that was overtaken must not shut what a later one has opened. No showtime is put on
  sale from here on; those that are on sale are shut one by one.
  KEYS  1 epoch  string  the epoch of the partition's data, negative while it is being made
  RETURNS  partition_shut | inventory_rebuilding
  COST  2 commands ]]
-- include: is_newer
if is_newer(redis.call('GET', KEYS[1]), EPOCH) then
  return { 'inventory_rebuilding' }
end
redis.call('SET', KEYS[1], '-' .. EPOCH)
return { 'partition_shut' }
