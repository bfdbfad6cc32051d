-- Whether a party fits into a free run without leaving a single seat beside it.
-- A rest of one seat is a single wherever the party sits; no rest, or two and more, can be kept whole.
local function fits_without_single(run_length, party)
  return run_length == party or run_length >= party + 2
end
