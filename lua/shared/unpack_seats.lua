-- Packed seats (2 bytes each, big-endian) as a list of seat indices.
local function unpack_seats(packed)
  local seats = {}
  for at = 1, #packed, 2 do
    local high, low = string.byte(packed, at, at + 1)
    seats[#seats + 1] = high * 256 + low
  end
  return seats
end
