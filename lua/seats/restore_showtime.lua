#!lua flags=allow-oom
--[[ Put the seat map that was built in the place of the one that is there, under the new epoch.
  Atomic because the gate of this showtime opens with it. Nothing is put there when a piece of it is missing,
  when a newer rebuild has begun, or when the map that is there has changed since its holds were read.
  The old map is freed by another thread of the server, the new one only changes its name.
  KEYS  1 showtime        hash    terms, holds by tail of their id, seats per buyer id
        2 taken           string  bit per seat: cannot be held now
        3 sold            string  bit per seat: claimed or sold
        4 blocked         string  bit per seat: kept off public sale; absent until one is
        5 expiry          zset    tails of hold ids by the instant they are due, ms
        6 building        hash    the same as showtime, of the map that was built
        7 building_expiry zset    the same as expiry; absent while nothing is held
        8 showtimes       set     showtimes of the partition
  ARGV  1 showtime_id  2 seat_count  3 opens_at_ms  4 closes_at_ms (0 = never)  5 buyer_seats_max  6 phase
        7 losses_until_ms: until then an unknown hold is called lost (0 = nothing was lost)
        8 version of the map that is there  9 plane of taken seats  10 plane of sold seats
        11 plane of blocked seats ('' = none is)  12 how many names were added  13 how many deadlines were
  RETURNS  restored {version} | inventory_rebuilding
  COST  at most 12 commands ]]
-- include: is_newer

-- Read
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version')

-- Decide: the epoch of what was built is one name more.
if is_newer(terms[1], EPOCH) or (terms[2] or '0') ~= ARGV[8]
  or redis.call('HGET', KEYS[6], 'epoch') ~= '-' .. EPOCH
  or redis.call('HLEN', KEYS[6]) ~= tonumber(ARGV[12]) + 1
  or redis.call('ZCARD', KEYS[7]) ~= tonumber(ARGV[13]) then
  return { 'inventory_rebuilding' }
end

-- Write: the epoch last, so a showtime without it is not on sale.
local version = tonumber(ARGV[8]) + 1
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('RENAME', KEYS[6], KEYS[1])
if ARGV[13] ~= '0' then
  redis.call('RENAME', KEYS[7], KEYS[5])
end
redis.call('SET', KEYS[2], ARGV[9])
redis.call('SET', KEYS[3], ARGV[10])
if ARGV[11] ~= '' then
  redis.call('SET', KEYS[4], ARGV[11])
end
redis.call('SADD', KEYS[8], ARGV[1])
redis.call('HSET', KEYS[1], 'version', version, 'seat_count', ARGV[2], 'opens_at_ms', ARGV[3],
  'closes_at_ms', ARGV[4], 'buyer_seats_max', ARGV[5], 'phase', ARGV[6], 'losses_until_ms', ARGV[7],
  'epoch', EPOCH)
return { 'restored', version }
