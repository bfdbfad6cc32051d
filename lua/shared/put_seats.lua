-- A piece of a plane (beginning at byte `base`) with the bits of `seats` set to `value` (1 or 0).
-- The list is put in order, which it mostly is: so each byte is made once, from all its seats.
local function put_seats(piece, base, seats, value)
  for at = 2, #seats do
    if seats[at] < seats[at - 1] then
      table.sort(seats)
      break
    end
  end
  local parts, from, place, byte = {}, 1, nil, nil
  for at = 1, #seats do
    local seat = seats[at]
    local here = (seat - seat % 8) / 8 - base + 1
    if here ~= place then
      if place then
        parts[#parts + 1] = string.sub(piece, from, place - 1) .. string.char(byte)
        from = place + 1
      end
      place, byte = here, string.byte(piece, here)
    end
    local mask = bit.rshift(128, seat % 8)
    byte = value == 1 and bit.bor(byte, mask) or bit.band(byte, bit.bnot(mask))
  end
  if not place then
    return piece
  end
  local rest = string.sub(piece, from, place - 1) .. string.char(byte) .. string.sub(piece, place + 1)
  return #parts == 0 and rest or table.concat(parts) .. rest
end
