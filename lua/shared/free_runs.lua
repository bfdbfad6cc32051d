-- include: has_seat
-- The runs of free seats in one stretch (seats `start` … `start + length - 1`) as {start, length} pairs.
-- Most stretches of a hall that is nearly sold out have none: those are not looked at seat by seat.
local function free_runs(piece, base, start, length)
  local runs, run = {}, nil
  local from, to = math.floor(start / 8) - base + 1, math.floor((start + length - 1) / 8) - base + 1
  if not string.find(string.sub(piece, from, to), '[^\255]') then
    return runs
  end
  for seat = start, start + length - 1 do
    if has_seat(piece, base, seat) then
      run = nil
    elseif run then
      run.length = run.length + 1
    else
      run = { start = seat, length = 1 }
      runs[#runs + 1] = run
    end
  end
  return runs
end
