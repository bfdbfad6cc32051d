#!lua
--[[ Put a showtime on sale, or change its window, phase and limit.
  Atomic because a hold must see either all of the old terms or all of the new ones.
  Terms that let somebody hold who could not before are announced; a map nobody has seen is no news.
  A showtime that is not there is new only where the partition's data is of the epoch and does not list it:
  it may also be lost.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 sold      string  bit per seat: claimed or sold
        4 showtimes set     showtimes of the partition
        5 epoch     string  the epoch of the partition's data
  ARGV  1 showtime_id  2 seat_count  3 opens_at_ms  4 closes_at_ms (0 = never)  5 buyer_seats_max
        6 phase ('open', 'paused' or 'closed')
  RETURNS  opened {version} | already_open {version} | inventory_rebuilding
  COST  at most 6 commands ]]
-- include: announce_freed

-- Read
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'phase', 'opens_at_ms', 'closes_at_ms',
  'buyer_seats_max')
local known = terms[1]

-- Decide
if (known or redis.call('GET', KEYS[5])) ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local function end_of(closes_at_ms)
  return closes_at_ms == '0' and math.huge or tonumber(closes_at_ms)
end
local is_kinder = known and ARGV[6] == 'open' and (terms[3] ~= 'open'
  or tonumber(ARGV[3]) < tonumber(terms[4])
  or end_of(ARGV[4]) > end_of(terms[5])
  or tonumber(ARGV[5]) > tonumber(terms[6]))

-- Write: the list first, for it tells a new showtime from one whose terms were lost.
if not known and redis.call('SADD', KEYS[4], ARGV[1]) == 0 then
  return { 'inventory_rebuilding' }
end
local version = tonumber(terms[2] or '0') + 1
local last_byte = math.floor((tonumber(ARGV[2]) + 7) / 8) - 1
redis.call('HSET', KEYS[1], 'epoch', EPOCH, 'version', version, 'seat_count', ARGV[2],
  'opens_at_ms', ARGV[3], 'closes_at_ms', ARGV[4], 'buyer_seats_max', ARGV[5], 'phase', ARGV[6])
if known then
  if is_kinder then
    announce_freed(KEYS[1], version)
  end
  return { 'already_open', version }
end
redis.call('SETRANGE', KEYS[2], last_byte, '\0')
redis.call('SETRANGE', KEYS[3], last_byte, '\0')
return { 'opened', version }
