-- include: span_of
-- include: put_seats
-- Set or clear the bits of `seats` in the plane stored at `key`: one read, one write.
local function write_seats(key, seats, value)
  if #seats == 0 then
    return
  end
  local first, last = span_of(seats)
  local piece = redis.call('GETRANGE', key, first, last)
  redis.call('SETRANGE', key, first, put_seats(piece, first, seats, value))
end
