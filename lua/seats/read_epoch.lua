#!lua flags=no-writes
--[[ Whether the data of a partition is of the epoch this script was made for.
  Atomic because it is one read; a script because its being unknown tells as much as its answer.
  KEYS  1 epoch  string  the epoch of the partition's data
  RETURNS  epoch_current | inventory_rebuilding
  COST  1 command ]]
if redis.call('GET', KEYS[1]) == EPOCH then
  return { 'epoch_current' }
end
return { 'inventory_rebuilding' }
