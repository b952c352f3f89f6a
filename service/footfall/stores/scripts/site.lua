-- What every script of a site shares; redis_connection.py puts it in front of each of them.
-- KEYS[1] is `ff1:{site}:ready`. All keys of a site carry its hash tag, so one key routes the whole script.

local READY = KEYS[1]
local prefix = string.sub(READY, 1, -#'ready' - 1)
local ONLINE, DIRTY = prefix .. 'online', prefix .. 'dirty'
local CLOSED, DAYS = prefix .. 'closed', prefix .. 'days'
local READ_AHEAD_US = 60 * 1000000 -- the clocks of Redis and Postgres may differ by this much
local SEEN_AHEAD_MS = 1000         -- and a clock that is adjusted goes back by this much at once
local DAY_FORM = '^%d%d%d%d%-%d%d%-%d%d$'

local function day_sketch(day) return prefix .. 'day:' .. day .. ':visitors' end
local function day_logs(day) return prefix .. 'day:' .. day .. ':logs' end
local function week_sketch(week) return prefix .. 'week:' .. week .. ':visitors' end
local function salt_key(week) return prefix .. 'salt:' .. week end

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function now_ms() return math.floor(now_us() / 1000) end

-- Postgres has not seen this day as it is now. The moment tells the change from all earlier ones; a count of changes
-- would begin at 1 again after each confirmation, and a slow rollup would confirm what came after its snapshot.
local function mark_dirty(day) redis.call('HSET', DIRTY, day, string.format('%.0f', now_us())) end

-- nil when that installation ('' = not known yet, any) may count this site, else the answer to give.
local function refusal(installation)
  local ready = redis.call('GET', READY)
  if not ready then return {'NOTREADY', ''} end
  if installation ~= '' and installation ~= ready then return {'NOTREADY', ready} end
  return nil
end

local function split(entry) -- '7:120' -> 7, 120
  local seq, views = string.match(entry, '^(%d+):(%d+)$')
  return tonumber(seq), tonumber(views)
end

local function views_of(day)
  local views = 0
  for _, entry in ipairs(redis.call('HVALS', day_logs(day))) do
    local _, log_views = split(entry)
    views = views + log_views
  end
  return views
end

-- Whether Redis has lost the sketch of a day whose logs are still there. The logs say that visitors were counted, and
-- nothing would send them again: a new sketch under these logs would pass for the whole day.
local function has_lost_sketch(day)
  return redis.call('EXISTS', day_sketch(day)) == 0 and redis.call('EXISTS', day_logs(day)) == 1
end

-- The answer where part of a site is lost beside what needs it. Its code is the one that Redis has for a sketch that it
-- cannot read, so the caller runs mend.lua.
local function damaged(what) return redis.error_reply('INVALIDOBJ ' .. what) end
local LOST_SKETCH = 'the sketch is lost beside its logs, '

-- The week's sketch is the union of its days; a missing one is made from them.
local function rebuild_week(week, sunday)
  if redis.call('EXISTS', week_sketch(week)) == 1 then return end
  local sketches = {}
  for _, day in ipairs(redis.call('SMEMBERS', DAYS)) do
    if day >= week and day <= sunday then sketches[#sketches + 1] = day_sketch(day) end
  end
  if #sketches > 0 then redis.call('PFMERGE', week_sketch(week), unpack(sketches)) end
end

local function peak_of(entry) -- '41:1795490000000' -> 41, 1795490000000; 0, 0 for none, or what no script of ours wrote
  local online, at = string.match(entry or '', '^(%d+):(%d+)$')
  return tonumber(online or 0), tonumber(at or 0)
end

-- Keep `online` where it is the highest so far, of the day and of all days; answer the highest of all, '' for none.
-- One of a moment that has not come is of a clock that was ahead.
local function raise_peak(today, online, now, best, best_today)
  local highest, highest_at = peak_of(best)
  local entry = string.format('%.0f:%.0f', online, now)
  if online > peak_of(best_today) then
    redis.call('HSET', CLOSED, 'peak:' .. today, entry)
    if redis.call('EXISTS', day_sketch(today)) == 1 then mark_dirty(today) end
  end
  if online <= highest and highest_at <= now + SEEN_AHEAD_MS then return best end
  redis.call('HSET', CLOSED, 'peak', entry)
  return entry
end

-- The numbers of a site: today, its week, and everything; in the order of the fields of `Reading` after `week_of`.
-- Where a part is lost that belongs into them: nil, and which part.
-- After them: the sums of the closed days ('' = none of `through`), the highest `online` ('' = none yet), the visitors
-- of last week while it is not closed, and the other open days, each as day, visitors, views.
local function counts(today, week, sunday, last_week, last_sunday, window_ms, now, has_counted)
  rebuild_week(week, sunday)
  local closed = redis.call('HMGET', CLOSED, 'through', 'visitors', 'views', 'adjustments', 'revision', 'sums', 'peak',
    'peak:' .. today)
  local through = closed[1]
  if not through or not string.match(through, DAY_FORM) then return nil, 'the closed days are lost' end
  local total_visitors, total_views, week_views, open_days = tonumber(closed[2] or 0), tonumber(closed[3] or 0), 0, {}
  for _, day in ipairs(redis.call('SMEMBERS', DAYS)) do
    local is_in_week, is_open = day >= week and day <= sunday, day > through
    if is_in_week or is_open then
      local views = views_of(day)
      if is_in_week then week_views = week_views + views end
      if is_open then
        local visitors = redis.call('PFCOUNT', day_sketch(day))
        if visitors == 0 and has_lost_sketch(day) then return nil, LOST_SKETCH .. day end
        total_views = total_views + views
        total_visitors = total_visitors + visitors
        if day ~= today then open_days[#open_days + 1] = {day, visitors, views} end
      end
    end
  end
  local today_visitors, week_visitors = redis.call('PFCOUNT', day_sketch(today)), redis.call('PFCOUNT', week_sketch(week))
  if week_visitors < today_visitors then -- the week has lost visitors; it is made again from its days
    redis.call('DEL', week_sketch(week))
    rebuild_week(week, sunday)
    week_visitors = redis.call('PFCOUNT', week_sketch(week))
  end
  local last_week_visitors = 0
  if through < last_sunday then
    rebuild_week(last_week, last_sunday)
    last_week_visitors = redis.call('PFCOUNT', week_sketch(last_week))
  end
  local online = redis.call('ZCOUNT', ONLINE, '(' .. (now - window_ms), now + SEEN_AHEAD_MS)
  local sums, peak = closed[6] or '', closed[7] or ''
  if has_counted then peak = raise_peak(today, online, now, peak, closed[8]) end
  return {
    online,
    today_visitors, views_of(today),
    week_visitors, week_views,
    total_visitors, total_views,
    tonumber(closed[4] or 0), closed[5] or '',
    now,
    string.sub(sums, 1, #through) == through and sums or '', -- an older version may have closed a day without them
    peak,
    last_week_visitors,
    open_days,
  }
end

-- Take over what Postgres has of the closed days, unless Redis knows a later reading,
-- or a day that is now to be closed has changes that Postgres lacks: the total would dip by them.
-- What a clock that was ahead has left gives way: a reading of a moment that has not come, and days closed that have not
-- ended on the reader's `today`. The caller has made sure that Redis has the days that are open again.
local function accept_closed(read_at, through, visitors, views, adjustments, revision, today, sums, peak)
  local known = redis.call('HMGET', CLOSED, 'read_at', 'through', 'peak')
  local known_at, known_through, soon = tonumber(known[1] or 0), known[2] or '', now_us() + READ_AHEAD_US
  local is_later = tonumber(read_at) > known_at or known_at > soon and tonumber(read_at) <= soon
  if not is_later or through < known_through and known_through < today then return end
  for _, day in ipairs(redis.call('HKEYS', DIRTY)) do
    if known_through ~= '' and day > known_through and day <= through then return end
  end
  redis.call('HSET', CLOSED, 'read_at', read_at, 'through', through, 'visitors', visitors, 'views', views,
    'adjustments', adjustments, 'revision', revision, 'sums', sums)
  local highest, highest_at = peak_of(known[3])
  if peak_of(peak) > highest or highest_at * 1000 > soon then redis.call('HSET', CLOSED, 'peak', peak) end
end

-- A salt destroys itself at its end (s since the epoch); the first one offered stays.
local function offer_salt(week, key, ends) redis.call('SET', salt_key(week), key, 'NX', 'EXAT', ends) end
