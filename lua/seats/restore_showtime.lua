#!lua flags=allow-oom
--[[ Build a showtime's seat map anew from what PostgreSQL owns, under the new epoch.
  Atomic because the gate of this showtime opens with it. Holds that survived are kept when they are not
  past their time and neither they nor any of their seats is owned; what PostgreSQL says always wins.
  KEYS  1 showtime  hash    terms, holds by tail of their id, seats per buyer id
        2 taken     string  bit per seat: cannot be held now
        3 sold      string  bit per seat: claimed or sold
        4 blocked   string  bit per seat: kept off public sale; absent until one is
        5 expiry    zset    tails of hold ids by the instant they are due, ms
        6 showtimes set     showtimes of the partition
  ARGV  1 showtime_id  2 seat_count  3 opens_at_ms  4 closes_at_ms (0 = never)  5 buyer_seats_max  6 phase
        7 blocked seats, packed 2 bytes each  8 now_ms ('' = server time)
        9 losses_until_ms: until then an unknown hold is called lost (0 = nothing was lost)
        10… owned seats, three arguments each: hold_id, state ('c' or 's') and pay_by_ms joined by ':',
        then buyer_id and packed seats joined by ':'
  RETURNS  restored {version, holds kept, holds dropped}
  COST  at most 8 commands, and 3 for each begun hundred of holds, kept or owned ]]
-- include: tail_of
-- include: now_ms
-- include: read_record
-- include: write_record
-- include: unpack_seats
-- include: has_seat
-- include: put_seats

-- Read: the survivors, and a version nobody has seen.
local now = now_ms(ARGV[8])
local version, survivors = 0, {}
local old = redis.call('HGETALL', KEYS[1])
for at = 1, #old, 2 do
  if old[at] == 'version' then
    version = tonumber(old[at + 1])
  elseif #old[at] == 16 and not string.find(old[at], '_', 1, true) then
    local record = read_record(old[at + 1])
    if record.state == 'h' then
      record.tail = old[at]
      survivors[#survivors + 1] = record
    end
  end
end

-- Decide
local blank = string.rep('\0', math.floor((tonumber(ARGV[2]) + 7) / 8))
local sold_seats, fields, scores, owned_by, is_owned = {}, {}, {}, {}, {}
for at = 10, #ARGV, 3 do
  local tail = tail_of(ARGV[at])
  local state, pay_by_ms = string.match(ARGV[at + 1], '^(%a):(%d+)$')
  local buyer, seats = string.match(ARGV[at + 2], '^([^:]+):(.*)$')
  for _, seat in ipairs(unpack_seats(seats)) do
    sold_seats[#sold_seats + 1] = seat
  end
  fields[#fields + 1] = { tail, write_record({
    state = state, expires_at_ms = tonumber(pay_by_ms), created_at_ms = now, seats = seats, buyer = buyer,
  }) }
  owned_by[buyer] = (owned_by[buyer] or 0) + #seats / 2
  is_owned[tail] = true
end
local sold = put_seats(blank, 0, sold_seats, 1)
-- An owned seat is not a blocked one too, else unblocking would free it.
local blocked = put_seats(put_seats(blank, 0, unpack_seats(ARGV[7]), 1), 0, sold_seats, 0)
local taken = put_seats(blocked, 0, sold_seats, 1)
local kept, dropped, kept_seats, is_kept = 0, 0, {}, {}
for _, record in ipairs(survivors) do
  local seats, free = unpack_seats(record.seats), record.expires_at_ms > now and not is_owned[record.tail]
  for _, seat in ipairs(seats) do
    free = free and not has_seat(taken, 0, seat) and not is_kept[seat]
  end
  if free then
    kept = kept + 1
    for _, seat in ipairs(seats) do
      kept_seats[#kept_seats + 1] = seat
      is_kept[seat] = true
    end
    fields[#fields + 1] = { record.tail, write_record(record) }
    scores[#scores + 1] = { record.expires_at_ms, record.tail }
    owned_by[record.buyer] = (owned_by[record.buyer] or 0) + #seats
  else
    dropped = dropped + 1
  end
end
taken = put_seats(taken, 0, kept_seats, 1)
for buyer, count in pairs(owned_by) do
  fields[#fields + 1] = { buyer, count }
end

-- Write: the epoch last, so a showtime without it is not on sale.
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('SET', KEYS[2], taken)
redis.call('SET', KEYS[3], sold)
if string.find(blocked, '[^%z]') then
  redis.call('SET', KEYS[4], blocked)
end
for at = 1, #fields, 100 do
  local batch = {}
  for place = at, math.min(at + 99, #fields) do
    batch[#batch + 1] = fields[place][1]
    batch[#batch + 1] = fields[place][2]
  end
  redis.call('HSET', KEYS[1], unpack(batch))
end
for at = 1, #scores, 100 do
  local batch = {}
  for place = at, math.min(at + 99, #scores) do
    batch[#batch + 1] = scores[place][1]
    batch[#batch + 1] = scores[place][2]
  end
  redis.call('ZADD', KEYS[5], unpack(batch))
end
redis.call('SADD', KEYS[6], ARGV[1])
redis.call('HSET', KEYS[1], 'version', version + 1, 'seat_count', ARGV[2], 'opens_at_ms', ARGV[3],
  'closes_at_ms', ARGV[4], 'buyer_seats_max', ARGV[5], 'phase', ARGV[6], 'losses_until_ms', ARGV[9],
  'epoch', EPOCH)
return { 'restored', version + 1, kept, dropped }
