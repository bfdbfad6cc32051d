#!lua flags=no-writes
--[[ The seats of a showtime that are kept off public sale.
  Atomic because the plane must be one of this epoch: that of a map nobody believes any more says nothing.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 blocked   string  bit per seat: kept off public sale; absent until one is
  RETURNS  blocked_seats {blocked plane} | inventory_rebuilding
  COST  2 commands ]]
if redis.call('HGET', KEYS[1], 'epoch') ~= EPOCH then
  return { 'inventory_rebuilding' }
end
return { 'blocked_seats', redis.call('GETRANGE', KEYS[2], 0, -1) }
