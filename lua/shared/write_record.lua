-- The packed form of a hold's record (see read_record for the layout).
local function write_record(record)
  local count = #record.seats / 2
  return struct.pack('>c1I6I6B', record.state, record.expires_at_ms, record.created_at_ms, count)
    .. record.seats
    .. record.buyer
end
