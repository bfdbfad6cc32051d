-- Whether the bit of a seat is set in a piece of a plane that begins at byte `base`.
local function has_seat(piece, base, seat)
  local byte = string.byte(piece, math.floor(seat / 8) - base + 1) or 0
  return bit.band(byte, bit.rshift(128, seat % 8)) ~= 0
end
