#!lua flags=allow-oom
--[[ Let the data of a partition be believed again: the last step of a rebuild.
  Atomic because it is one write; a script because it must be possible on a server whose memory is full,
  and on every node of a cluster.
  KEYS  1 epoch  string  the epoch of the partition's data
  RETURNS  partition_opened
  COST  1 command ]]
redis.call('SET', KEYS[1], EPOCH)
return { 'partition_opened' }
