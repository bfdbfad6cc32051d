-- Packed seats (2 bytes each, big-endian) as a list of seat indices.
local function unpack_seats(packed)
  local seats, byte = {}, string.byte
  for at = 1, #packed / 2 do
    local high, low = byte(packed, 2 * at - 1, 2 * at)
    seats[at] = high * 256 + low
  end
  return seats
end
