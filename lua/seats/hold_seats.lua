#!lua
--[[ Hold seats of one showtime for one buyer, all or none.
  Atomic because two buyers must never both read a seat as free. The same hold id gives the same
  answer, so a repeat after a lost reply is safe, also when the hold has become an order meanwhile; a
  worker that does not know of that order refuses before it asks here (ADR 8). A hold that is past its
  time is taken over here, in the same step: expiry is data, the reaper only tidies.
  The orphan rule is judged on the same bits the hold is granted on. Geometry arrives as stretches:
  ranges of ordinary seats without an aisle or an accessible seat between them.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 expiry    zset    tails of hold ids by the instant they are due, ms
  ARGV  1 hold_id  2 buyer_id  3 ttl_ms  4 now_ms ('' = server time)
        5 seats, packed 2 bytes each
        6 orphan_rule ('off', 'lenient' or 'strict')
        7 stretches the seats touch, packed start, length and area number, 2 bytes each ('' when off)
        8 stretches of the areas they are in, the same form ('' unless strict)
        9 guards ('buyer': sale window and buyer limit apply; 'late': only the limit, for seats paid after
          their time; 'counter': neither)
        10 latest_ms: too late after this instant of the same clock ('' = never)
  RETURNS  held {expires_at_ms, version} | already_held {expires_at_ms, version}
           | inventory_rebuilding | idempotency_key_reused | hold_expired
           | sale_not_open {opens_at_ms} | sale_closed {closes_at_ms} | seat_limit_exceeded {already, most}
           | seat_taken {taken plane, version} | orphan_seat {packed singles, taken plane, version}
           | too_late {now_ms} | holds_overdue: more than are looked through here may stand in the way; sweep,
           and ask again
        The plane is the one the refusal was judged on: expired holds that stood in the way are off it.
        A step of one from the version before means that exactly the wanted seats changed; a hold that also
        freed expired ones makes a step of two. Whoever keeps the map relies on it.
  COST  at most 6 commands; contested: 3 more and 1 for each hold taken over; strict with a single: 1 more ]]
-- include: tail_of
-- include: now_ms
-- include: read_record
-- include: write_record
-- include: unpack_seats
-- include: in_order
-- include: has_seat
-- include: put_seats
-- include: span_of
-- include: has_any
-- include: leaves_single
-- include: free_runs
-- include: new_singles
-- include: fits_without_single

local showtime, taken, expiry = KEYS[1], KEYS[2], KEYS[3]
local tail, buyer_id, seats_packed = tail_of(ARGV[1]), ARGV[2], ARGV[5]

-- Read: the terms, a hold of this id, the buyer's seats.
local terms = redis.call('HMGET', showtime, 'epoch', 'version', 'phase', 'opens_at_ms', 'closes_at_ms',
  'buyer_seats_max', tail, buyer_id)
if terms[1] ~= EPOCH then
  return { 'inventory_rebuilding' }
end
local version = tonumber(terms[2])
local now = now_ms(ARGV[4])
if ARGV[10] ~= '' and now > tonumber(ARGV[10]) then
  return { 'too_late', now }
end

-- Decide: a repeat is answered from its own record, also when it has become an order meanwhile. An order's
-- seats may stand in another order than they were asked for: a rebuild has them from PostgreSQL.
if terms[7] then
  local existing = read_record(terms[7])
  local has, wants = existing.seats, seats_packed
  if existing.state == 'x' then
    has = wants
  elseif existing.state ~= 'h' then
    has, wants = in_order(has), in_order(wants)
  end
  if existing.buyer ~= buyer_id or has ~= wants then
    return { 'idempotency_key_reused' }
  end
  if existing.state == 'x' or (existing.state == 'h' and existing.expires_at_ms <= now) then
    return { 'hold_expired' }
  end
  return { 'already_held', existing.expires_at_ms, version }
end

-- Decide: is the sale open?
if ARGV[9] == 'buyer' then
  local closes_at_ms = tonumber(terms[5])
  if terms[3] == 'closed' or (closes_at_ms > 0 and now >= closes_at_ms) then
    return { 'sale_closed', closes_at_ms }
  end
  if terms[3] == 'paused' or now < tonumber(terms[4]) then
    return { 'sale_not_open', tonumber(terms[4]) }
  end
end

-- Decide: are the seats free, and may this buyer have that many?
local seats, stretches = unpack_seats(seats_packed), unpack_seats(ARGV[7])
local first, last = span_of(seats, stretches)
local piece = redis.call('GETRANGE', taken, first, last)
if #piece <= last - first then -- the plane was lost, and what is not there must never be read as free
  return { 'inventory_rebuilding' }
end
local OVERDUE_MAX = 500 -- looked through by everybody who is refused: some hundred microseconds
local counts = ARGV[9] ~= 'counter'
local limit = counts and tonumber(terms[6]) or math.huge
local owned = tonumber(terms[8] or '0')
local contested = has_any(piece, first, seats)
local overdue, freed = {}, {}
if contested or owned + #seats > limit then
  -- Expired holds that stand in the way: on a wanted seat, or counted against this buyer.
  local wanted = {}
  for _, seat in ipairs(seats) do
    wanted[seat] = true
  end
  local due = redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, OVERDUE_MAX + 1)
  if #due > OVERDUE_MAX then
    return { 'holds_overdue' }
  end
  for place, packed in ipairs(#due > 0 and redis.call('HMGET', showtime, unpack(due)) or {}) do
    local record = read_record(packed)
    if record and record.state == 'h' then
      local held = unpack_seats(record.seats)
      local in_the_way = counts and record.buyer == buyer_id
      for _, seat in ipairs(held) do
        in_the_way = in_the_way or wanted[seat]
      end
      if in_the_way then
        record.tail = due[place]
        record.count = #held
        overdue[#overdue + 1] = record
        if record.buyer == buyer_id then
          owned = owned - #held
        end
        for _, seat in ipairs(held) do
          freed[#freed + 1] = seat
        end
      end
    end
  end
  if #freed > 0 then
    local from, to = span_of(freed)
    if from < first or to > last then
      first, last = math.min(first, from), math.max(last, to)
      piece = redis.call('GETRANGE', taken, first, last)
      if #piece <= last - first then
        return { 'inventory_rebuilding' }
      end
    end
    piece = put_seats(piece, first, freed, 0)
    contested = has_any(piece, first, seats)
  end
end
if owned + #seats > limit then
  return { 'seat_limit_exceeded', owned, limit }
end
local function whole_plane()
  return put_seats(redis.call('GETRANGE', taken, 0, -1), 0, freed, 0)
end
if contested then
  return { 'seat_taken', whole_plane(), version }
end

-- Decide: would a seat be left alone that need not be?
local after, leaves_any = put_seats(piece, first, seats, 1), false
for at = 1, #stretches, 3 do
  local start = stretches[at]
  leaves_any = leaves_any or leaves_single(after, first, seats, start, start + stretches[at + 1])
end
if leaves_any then
  local chosen, area_stretches = {}, unpack_seats(ARGV[8])
  for _, seat in ipairs(seats) do
    chosen[seat] = true
  end

  local runs_in = {} -- what the whole choice leaves of a stretch, by its place in the list: for all parties
  local function fits_in_area(party, whole_after)
    -- Anywhere in the area, but not where the rest of this very choice sits.
    local others = put_seats(whole_after, 0, party.seats, 0)
    for at = 1, #area_stretches, 3 do
      local start, length = area_stretches[at], area_stretches[at + 1]
      if area_stretches[at + 2] == party.area then
        local runs
        if start <= party.seats[1] and party.seats[1] < start + length then
          runs = free_runs(others, 0, start, length)
        else
          runs = runs_in[at] or free_runs(whole_after, 0, start, length)
          runs_in[at] = runs
        end
        for _, run in ipairs(runs) do
          if fits_without_single(run.length, #party.seats) then
            return true
          end
        end
      end
    end
    return false
  end

  local singles, parties = {}, {}
  for at = 1, #stretches, 3 do
    for _, run in ipairs(free_runs(piece, first, stretches[at], stretches[at + 1])) do
      local left, party = new_singles(run, chosen)
      local refused = fits_without_single(run.length, #party)
      if #left > 0 and (refused or ARGV[6] == 'strict') then
        parties[#parties + 1] = { seats = party, singles = left, area = stretches[at + 2], refused = refused }
      end
    end
  end
  if ARGV[6] == 'strict' then
    local whole_after = put_seats(whole_plane(), 0, seats, 1)
    for _, party in ipairs(parties) do
      party.refused = party.refused or fits_in_area(party, whole_after)
    end
  end
  for _, party in ipairs(parties) do
    for _, seat in ipairs(party.refused and party.singles or {}) do
      singles[#singles + 1] = struct.pack('>H', seat)
    end
  end
  if #singles > 0 then
    return { 'orphan_seat', table.concat(singles), whole_plane(), version }
  end
end

-- Write: first the seats (memory pressure refuses here, before anything else changed), then the hold.
redis.call('SETRANGE', taken, first, after)
local expires_at_ms = now + tonumber(ARGV[3])
local new_version = version + (#overdue > 0 and 2 or 1)
-- What is left of an expired hold says so to its owner for a while; the reaper buries it.
local tombstones, burials = {}, {}
for _, record in ipairs(overdue) do
  if record.buyer ~= buyer_id then
    redis.call('HINCRBY', showtime, record.buyer, -record.count)
  end
  record.state, record.seats = 'x', ''
  tombstones[#tombstones + 1] = record.tail
  tombstones[#tombstones + 1] = write_record(record)
  burials[#burials + 1] = now + 600000
  burials[#burials + 1] = record.tail
end
local record = write_record({
  state = 'h', expires_at_ms = expires_at_ms, created_at_ms = now, seats = seats_packed, buyer = buyer_id,
})
redis.call('HSET', showtime, 'version', new_version, buyer_id, owned + #seats, tail, record,
  unpack(tombstones))
redis.call('ZADD', expiry, expires_at_ms, tail, unpack(burials))
return { 'held', expires_at_ms, new_version }
