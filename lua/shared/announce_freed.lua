-- Tell the workers that more may be had of a showtime, from this version on, than an older picture of it shows.
local function announce_freed(showtime, version)
  redis.call('PUBLISH', 'rsv:freed', showtime .. ' ' .. version)
end
