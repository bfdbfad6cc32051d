-- First and last byte of a plane that the seats touch.
local function span_of(seats)
  local first, last = seats[1], seats[1]
  for _, seat in ipairs(seats) do
    first = math.min(first, seat)
    last = math.max(last, seat)
  end
  return math.floor(first / 8), math.floor(last / 8)
end
