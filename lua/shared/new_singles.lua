-- Seats of a free run that the chosen ones would leave alone, and the chosen ones of the run.
-- A run of one cannot leave a single; a single is new only if the run was longer before.
local function new_singles(run, chosen)
  local singles, party, rest = {}, {}, 0
  local stop = run.start + run.length
  for seat = run.start, stop do
    if seat == stop or chosen[seat] then
      if rest == 1 then
        singles[#singles + 1] = seat - 1
      end
      rest = 0
      if seat < stop then
        party[#party + 1] = seat
      end
    else
      rest = rest + 1
    end
  end
  if #party == 0 then
    return {}, party
  end
  return singles, party
end
