-- The name of a hold among those of its showtime: its id without what all of them begin with.
local function tail_of(hold_id)
  return string.sub(hold_id, 15)
end
