-- First and last byte of a plane that the seats touch, and the stretches if there are any.
local function span_of(seats, stretches)
  local first, last = seats[1], seats[1]
  for at = 2, #seats do
    local seat = seats[at]
    if seat < first then
      first = seat
    elseif seat > last then
      last = seat
    end
  end
  for at = 1, stretches and #stretches or 0, 3 do
    local start, stop = stretches[at], stretches[at] + stretches[at + 1] - 1
    if start < first then
      first = start
    end
    if stop > last then
      last = stop
    end
  end
  return (first - first % 8) / 8, (last - last % 8) / 8
end
