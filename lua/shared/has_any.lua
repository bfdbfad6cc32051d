-- include: has_seat
-- Whether the bit of any of the seats is set in a piece of a plane that begins at byte `base`.
local function has_any(piece, base, seats)
  for at = 1, #seats do
    if has_seat(piece, base, seats[at]) then
      return true
    end
  end
  return false
end
