-- A hold's packed record as {state, expires_at_ms, created_at_ms, seats (packed), buyer}; nil for nil.
-- Layout: state 1 byte ('h' held, 'c' claimed, 's' sold, 'x' expired), two instants of 6 bytes,
-- seat count 1 byte, seats 2 bytes each, the rest is the buyer id. All big-endian.
local function read_record(packed)
  if not packed then
    return nil
  end
  local state, expires_at_ms, created_at_ms, count = struct.unpack('>c1I6I6B', packed)
  local buyer_from = 15 + 2 * count
  return {
    state = state,
    expires_at_ms = expires_at_ms,
    created_at_ms = created_at_ms,
    seats = string.sub(packed, 15, buyer_from - 1),
    buyer = string.sub(packed, buyer_from),
  }
end
