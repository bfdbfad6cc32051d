-- Whether the bit of a seat is set in a piece of a plane that begins at byte `base`.
local function has_seat(piece, base, seat)
  local place = seat % 8
  return bit.rshift(string.byte(piece, (seat - place) / 8 - base + 1) or 0, 7 - place) % 2 == 1
end
