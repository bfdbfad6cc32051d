#!lua flags=no-writes
--[[ The seat map of a showtime, or only what time does to it when the caller has this version already.
  Atomic because planes, version and holds must be of one instant: whoever sees a seat taken also learns
  which hold took it, unless he was told before.
  A caller that keeps the map asks for the holds granted since its last look: a hold's deadline is the
  instant it was granted plus the holds' common time to live, so newer holds have later deadlines, and none
  has one beyond now plus that time. What lies beyond is left out: there are the burials of all that ended
  in the last minutes, in a large hall thousands of them, and every look at a changed map would answer them
  again.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 sold      string  bit per seat: claimed or sold
        4 expiry    zset    tails of hold ids by the instant they are due, ms
  ARGV  1 version the caller has ('' = none)  2 now_ms ('' = server time)
        3 due_from_ms: the holds due then or later are answered ('' = none of them)
        4 due_within_ms: and due no later than so long from now ('' = however late)
  RETURNS  map {version, phase, opens_at_ms, closes_at_ms, seat_count, now_ms, first_due_at_ms (0 = no hold
           will ever be due), taken plane, sold plane, {tail of a hold id…}}; planes and tails are left
           out when the version is the caller's | inventory_rebuilding
  COST  at most 6 commands; one of them answers every hold in the range asked for ]]
-- include: now_ms

local terms = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'phase', 'opens_at_ms', 'closes_at_ms',
  'seat_count')
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local first_due = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
local answer = { 'map', tonumber(terms[2]), terms[3], tonumber(terms[4]), tonumber(terms[5]),
  tonumber(terms[6]), now_ms(ARGV[2]), tonumber(first_due[2] or '0') }
if terms[2] ~= ARGV[1] then
  local taken, sold = redis.call('GETRANGE', KEYS[2], 0, -1), redis.call('GETRANGE', KEYS[3], 0, -1)
  if math.min(#taken, #sold) * 8 < answer[6] then
    return { 'inventory_rebuilding' }
  end
  answer[9], answer[10] = taken, sold
  local due_to_ms = ARGV[4] ~= '' and answer[7] + tonumber(ARGV[4]) or '+inf'
  answer[11] = ARGV[3] ~= '' and redis.call('ZRANGEBYSCORE', KEYS[4], ARGV[3], due_to_ms) or {}
end
return answer
