-- How a site takes over what Postgres has of its closed days; redis_connection.py puts it in front of open.lua and
-- confirm.lua.

-- Take over what Postgres has of the closed days, unless Redis knows a later reading,
-- or a day that is now to be closed has changes that Postgres lacks: the total would dip by them.
-- What a clock that was ahead has left gives way: a reading of a moment that has not come, and days closed that have not
-- ended on the reader's `today`. The caller has made sure that Redis has the days that are open again, or its `today` is
-- UNKNOWN.
local function accept_closed(read_at, through, visitors, views, adjustments, revision, today, sums, peak, exact)
  local known = redis.call('HMGET', CLOSED, 'read_at', 'through', 'peak')
  local known_at, known_through, soon = tonumber(known[1] or 0), known[2] or '', now_us() + READ_AHEAD_US
  local gives_way = known_at > soon and tonumber(read_at) <= soon
  if not gives_way and tonumber(read_at) <= known_at then return end
  local may_reopen = today ~= UNKNOWN and (gives_way or known_through >= today)
  if through < known_through and not may_reopen then return end
  for _, day in ipairs(redis.call('HKEYS', DIRTY)) do
    if known_through ~= '' and day > known_through and day <= through then return end
  end
  redis.call('HSET', CLOSED, 'read_at', read_at, 'through', through, 'visitors', visitors, 'views', views,
    'adjustments', adjustments, 'revision', revision, 'sums', sums,
    'exact_at', exact == '1' and read_at or '', 'summed_at', read_at)
  local highest, highest_at = peak_of(known[3])
  if peak_of(peak) > highest or highest_at * 1000 > soon then redis.call('HSET', CLOSED, 'peak', peak) end
end
