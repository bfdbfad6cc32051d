-- include: unpack_seats
-- Packed seats, packed in ascending order.
local function in_order(packed)
  local seats = unpack_seats(packed)
  table.sort(seats)
  for at, seat in ipairs(seats) do
    seats[at] = struct.pack('>H', seat)
  end
  return table.concat(seats)
end
