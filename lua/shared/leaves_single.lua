-- include: has_seat
-- Whether a free seat stands alone beside one of the chosen seats, in a stretch (`start` … `stop - 1`).
-- In `after` the chosen seats are set like the taken ones. Two steps outwards from each of them are enough,
-- however long the stretch is; most choices leave no single, and for them no more than this is looked at.
-- Neighbours in the hall are mostly neighbours in the list: then there is nothing between them to ask about.
local function leaves_single(after, base, seats, start, stop)
  for at = 1, #seats do
    local seat = seats[at]
    if seat >= start and seat < stop then
      local left, right = seat - 1, seat + 1
      if left >= start and left ~= seats[at - 1] and not has_seat(after, base, left)
        and (left == start or has_seat(after, base, left - 1)) then
        return true
      end
      if right < stop and right ~= seats[at + 1] and not has_seat(after, base, right)
        and (right + 1 == stop or has_seat(after, base, right + 1)) then
        return true
      end
    end
  end
  return false
end
