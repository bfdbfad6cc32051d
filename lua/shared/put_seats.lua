-- A piece of a plane (beginning at byte `base`) with the bits of `seats` set to `value` (1 or 0).
local function put_seats(piece, base, seats, value)
  local changed, places = {}, {}
  for _, seat in ipairs(seats) do
    local place = math.floor(seat / 8) - base + 1
    local byte = changed[place]
    if not byte then
      byte = string.byte(piece, place)
      places[#places + 1] = place
    end
    local mask = bit.rshift(128, seat % 8)
    changed[place] = value == 1 and bit.bor(byte, mask) or bit.band(byte, bit.bnot(mask))
  end
  table.sort(places)
  local parts, from = {}, 1
  for _, place in ipairs(places) do
    parts[#parts + 1] = string.sub(piece, from, place - 1)
    parts[#parts + 1] = string.char(changed[place])
    from = place + 1
  end
  parts[#parts + 1] = string.sub(piece, from)
  return table.concat(parts)
end
