-- include: put_seats
-- Set or clear the bits of `seats` in a piece that `read_piece` read for them, and write it back.
local function write_piece(piece, seats, value)
  if #seats > 0 then
    redis.call('SETRANGE', piece.key, piece.first, put_seats(piece.bytes, piece.first, seats, value))
  end
end
