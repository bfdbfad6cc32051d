-- include: has_seat
-- The runs of free seats in one stretch (seats `start` … `start + length - 1`) as {start, length} pairs.
local function free_runs(piece, base, start, length)
  local runs, run = {}, nil
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
