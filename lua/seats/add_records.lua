#!lua flags=allow-oom
--[[ Add a piece to the seat map that is being built: records of holds, seats per buyer, deadlines.
  Atomic because a piece must not come between those of another rebuild.
  The caller packs records as `shared/write_record.lua` does, and bounds the piece.
  KEYS  1 building        hash    terms, holds by tail of their id, seats per buyer id, of the map being built
        2 building_expiry zset    tails of its hold ids by the instant they are due, ms
  ARGV  1 how many of the rest are names and values  2… name, value; then deadline in ms, tail; each in pairs
  RETURNS  records_added | inventory_rebuilding
  COST  at most 3 commands ]]

-- Decide
if redis.call('HGET', KEYS[1], 'epoch') ~= '-' .. EPOCH then
  return { 'inventory_rebuilding' }
end

-- Write
local last = 1 + tonumber(ARGV[1])
if last > 1 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 2, last))
end
if #ARGV > last then
  redis.call('ZADD', KEYS[2], unpack(ARGV, last + 1))
end
return { 'records_added' }
