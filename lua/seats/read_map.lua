#!lua flags=no-writes
--[[ The seat map of a showtime, or only its version when the caller has it already.
  Atomic because both planes and the version must be of one instant.
  KEYS  1 showtime  hash    terms, holds by hold id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 sold      string  bit per seat: claimed or sold
  ARGV  1 version the caller has ('' = none)
  RETURNS  map {version, phase, opens_at_ms, closes_at_ms, seat_count, taken plane, sold plane}; the planes
           are left out when the version is the caller's | inventory_rebuilding
  COST  at most 3 commands ]]
local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'phase', 'opens_at_ms', 'closes_at_ms',
  'seat_count')
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local answer = { 'map', tonumber(terms[2]), terms[3], tonumber(terms[4]), tonumber(terms[5]),
  tonumber(terms[6]) }
if terms[2] ~= ARGV[1] then
  answer[7] = redis.call('GETRANGE', KEYS[2], 0, -1)
  answer[8] = redis.call('GETRANGE', KEYS[3], 0, -1)
end
return answer
