-- Whether what carries an epoch is of a later rebuild than ours. A negative one is shut by the rebuild of its
-- number; what has none, or no number, is of no rebuild at all.
local function is_newer(found, ours)
  return math.abs(tonumber(found or '0') or 0) > tonumber(ours)
end
