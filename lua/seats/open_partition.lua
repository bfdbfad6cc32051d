#!lua flags=allow-oom
--[[ Let the data of a partition be believed again: the last step of a rebuild.
  Opens what this very rebuild has shut, and nothing else: another epoch there says that a later rebuild is at
  work, none that the data was wiped since, with the maps that were made. Atomic because of that: the epoch is
  read and written in one step. A script because it must be possible on a server whose memory is full, and
  on every node of a cluster.
  KEYS  1 epoch  string  the epoch of the partition's data, negative while it is being made
  RETURNS  partition_opened | inventory_rebuilding
  COST  2 commands ]]
local known = tonumber(redis.call('GET', KEYS[1]) or '0')
if math.abs(known or 0) ~= tonumber(EPOCH) then
  return { 'inventory_rebuilding' }
end
redis.call('SET', KEYS[1], EPOCH)
return { 'partition_opened' }
