#!lua flags=allow-oom
--[[ Let the data of a partition be believed again: the last step of a rebuild.
  Atomic because a rebuild that was overtaken must not open what a later one has shut or made: the epoch the
  data has is read and written in one step. A script because it must be possible on a server whose memory
  is full, and on every node of a cluster.
  KEYS  1 epoch  string  the epoch of the partition's data, negative while it is being made
  RETURNS  partition_opened | inventory_rebuilding
  COST  2 commands ]]
-- include: is_newer
if is_newer(redis.call('GET', KEYS[1]), EPOCH) then
  return { 'inventory_rebuilding' }
end
redis.call('SET', KEYS[1], EPOCH)
return { 'partition_opened' }
