-- The instant to judge by: the caller's when given (tests, simulation), else this server's clock.
local function now_ms(explicit)
  if explicit ~= '' then
    return tonumber(explicit)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
