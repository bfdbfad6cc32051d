-- include: span_of
-- The piece of the plane at `key` that the seats touch, to be given to `write_piece`; nil when the plane is
-- missing or ends before it. A plane is as long as its hall from the beginning, so a short one was lost, and
-- what is not there must never be read as free seats.
local function read_piece(key, seats)
  if #seats == 0 then
    return { key = key, first = 0, bytes = '' }
  end
  local first, last = span_of(seats)
  local bytes = redis.call('GETRANGE', key, first, last)
  if #bytes <= last - first then
    return nil
  end
  return { key = key, first = first, bytes = bytes }
end
