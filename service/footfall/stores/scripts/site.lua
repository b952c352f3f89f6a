-- What every script of a site shares; redis_connection.py puts it in front of each of them.
-- KEYS[1] is `ff1:{site}:ready`. All keys of a site carry its hash tag, so one key routes the whole script.

local READY = KEYS[1]
local prefix = string.sub(READY, 1, -#'ready' - 1)
local ONLINE, DIRTY = prefix .. 'online', prefix .. 'dirty'
local CLOSED, DAYS = prefix .. 'closed', prefix .. 'days'
local READ_AHEAD_US = 60 * 1000000 -- the clocks of Redis and Postgres may differ by this much
local SEEN_AHEAD_MS = 1000         -- and a clock that is adjusted goes back by this much at once
local UNKNOWN = '9999-12-31'       -- a day
local DAY_FORM = '^%d%d%d%d%-%d%d%-%d%d$'

local function day_sketch(day) return prefix .. 'day:' .. day .. ':visitors' end
local function day_logs(day) return prefix .. 'day:' .. day .. ':logs' end
local function week_sketch(week) return prefix .. 'week:' .. week .. ':visitors' end
local function day_ids(day) return prefix .. 'day:' .. day .. ':ids' end
local function week_ids(week) return prefix .. 'week:' .. week .. ':ids' end
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

-- While a day or a week is small, a set of its ids stands beside its sketch: the size of the set is the exact number.
-- The sketch sees every id all the same. So the set may be dropped at any moment, and a worker of a version that feeds
-- only the sketch loses nobody: what it writes lacks the mark below, and the number is no longer said to be exact.
-- A set begins only beside a sketch that has seen no id, so it never lacks an id of before.
local EMPTY_SKETCH_BYTES = 18 -- the header, and one run of 16,384 empty registers
-- Among the logs of a day, entries of no log: how many visitors its set, or its week's, had when it was dropped. They
-- merge as logs do, and an estimate is never shown below them.
local DAY_FLOOR, WEEK_FLOOR = 'd', 'e'
local MARK = '0' -- before the seq of a log: its visitors are in the sets too, as far as these exist

local function split(entry) -- '7:120' or '07:120' -> 7, 120
  local seq, views = string.match(entry, '^(%d+):(%d+)$')
  return tonumber(seq), tonumber(views)
end

local function is_marked(entry) return string.sub(entry, 1, 1) == MARK end

-- Write how far a log is applied; `known` is its entry so far, and one without the mark stays so.
local function write_log(day, log_id, known, seq, views, in_sets)
  local mark = in_sets and (not known or is_marked(known)) and MARK or ''
  redis.call('HSET', day_logs(day), log_id, string.format('%s%.0f:%.0f', mark, seq, views))
end

local function raise_floor(day, floor, visitors, in_sets)
  local known = redis.call('HGET', day_logs(day), floor)
  write_log(day, floor, known, math.max(visitors, known and split(known) or 0), 0, in_sets)
end

-- Whether visitors of a day were counted by logs that are lost: no mark says of these whether they are in the sets.
local function lacks_logs(day, sketch_bytes)
  return sketch_bytes > EMPTY_SKETCH_BYTES and redis.call('EXISTS', day_logs(day)) == 0
end

-- What the logs of a day say: its views, whether all of them have the mark, and the floors. Read once all is written.
local known_logs = {}
local function read_logs(day)
  if known_logs[day] then return known_logs[day] end
  local logs = {views = 0, in_sets = true, [DAY_FLOOR] = 0, [WEEK_FLOOR] = 0}
  local entries = redis.call('HGETALL', day_logs(day))
  for at = 1, #entries, 2 do
    local log_id, entry = entries[at], entries[at + 1]
    local seq, views = split(entry)
    logs.views = logs.views + views
    if not is_marked(entry) then logs.in_sets = false end
    if logs[log_id] then logs[log_id] = seq end
  end
  if #entries == 0 and redis.call('STRLEN', day_sketch(day)) > EMPTY_SKETCH_BYTES then logs.in_sets = false end
  known_logs[day] = logs
  return logs
end

local set_sizes = {} -- those that this call knows
local function size_of(set)
  if not set_sizes[set] then set_sizes[set] = redis.call('SCARD', set) end
  return set_sizes[set]
end

-- The visitors of a day or a week, and whether that is exact.
local function visitors_in(set, sketch, in_sets, floor)
  local size = size_of(set)
  if size > 0 and in_sets then return size, true end
  local estimate = math.max(redis.call('PFCOUNT', sketch), floor, size)
  return estimate, estimate == 0
end

local function visitors_of(day, logs)
  return visitors_in(day_ids(day), day_sketch(day), logs.in_sets, logs[DAY_FLOOR])
end

local function visitors_of_week(week, sunday)
  local in_sets, floor = true, 0
  for _, day in ipairs(redis.call('SMEMBERS', DAYS)) do
    if day >= week and day <= sunday then
      local logs = read_logs(day)
      in_sets, floor = in_sets and logs.in_sets, math.max(floor, logs[WEEK_FLOOR])
    end
  end
  return visitors_in(week_ids(week), week_sketch(week), in_sets, floor)
end

-- Drop a set; the sketch alone goes on, with all its ids, and where a floor is given from no less than its size.
local function drop_set(set, sketch, day, floor)
  if size_of(set) == 0 then return end
  local ids = redis.call('SMEMBERS', set)
  for first = 1, #ids, 1000 do
    redis.call('PFADD', sketch, unpack(ids, first, math.min(#ids, first + 999)))
  end
  if floor then raise_floor(day, floor, #ids, true) end
  redis.call('DEL', set)
  set_sizes[set] = 0
end

local function keep_forever(sketch, set) -- both have the same end
  if redis.call('PERSIST', sketch) == 1 then redis.call('PERSIST', set) end
end

local function each_slice(packed, each) -- `unpack` fails at 8,000 values, so `each` gets the 16-byte ids in slices
  for first = 1, #packed, 16 * 1000 do
    local slice = {}
    for at = first, math.min(#packed, first + 16 * 1000 - 1), 16 do
      slice[#slice + 1] = string.sub(packed, at, at + 15)
    end
    each(slice)
  end
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

-- The week is the union of its days; a missing one is made from them. Its set begins where each of its days has one.
local function rebuild_week(week, sunday)
  local bytes = redis.call('STRLEN', week_sketch(week))
  if bytes > 0 then return bytes end
  local sketches, sets, is_whole = {}, {}, true
  for _, day in ipairs(redis.call('SMEMBERS', DAYS)) do
    if day >= week and day <= sunday then
      sketches[#sketches + 1] = day_sketch(day)
      if size_of(day_ids(day)) > 0 then
        sets[#sets + 1] = day_ids(day)
      elseif redis.call('STRLEN', day_sketch(day)) > EMPTY_SKETCH_BYTES then
        is_whole = false
      end
    end
  end
  redis.call('DEL', week_ids(week))
  set_sizes[week_ids(week)] = nil
  if is_whole and #sets > 0 then redis.call('SUNIONSTORE', week_ids(week), unpack(sets)) end
  if #sketches > 0 then redis.call('PFMERGE', week_sketch(week), unpack(sketches)) end
  return redis.call('STRLEN', week_sketch(week))
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
-- of last week while it is not closed, the other open days, each as day, visitors, views, and which of today, week and
-- total are exact.
local function counts(today, week, sunday, last_week, last_sunday, window_ms, now, has_counted)
  rebuild_week(week, sunday)
  local closed = redis.call('HMGET', CLOSED, 'through', 'visitors', 'views', 'adjustments', 'revision', 'sums', 'peak',
    'peak:' .. today, 'read_at', 'exact_at')
  local through = closed[1]
  if not through or not string.match(through, DAY_FORM) then return nil, 'the closed days are lost' end
  local total_visitors, total_views, week_views, open_days = tonumber(closed[2] or 0), tonumber(closed[3] or 0), 0, {}
  -- A reading that a worker of an older version has taken over says nothing of it.
  local total_is_exact = closed[10] == closed[9]
  for _, day in ipairs(redis.call('SMEMBERS', DAYS)) do
    local is_in_week, is_open = day >= week and day <= sunday, day > through
    if is_in_week or is_open then
      local logs = read_logs(day)
      if is_in_week then week_views = week_views + logs.views end
      if is_open then
        local visitors, is_exact = visitors_of(day, logs)
        if visitors == 0 and has_lost_sketch(day) then return nil, LOST_SKETCH .. day end
        total_views = total_views + logs.views
        total_visitors = total_visitors + visitors
        if day ~= today then open_days[#open_days + 1] = {day, visitors, logs.views} end
        total_is_exact = total_is_exact and is_exact
      end
    end
  end
  local today_logs = read_logs(today)
  local today_visitors, today_is_exact = visitors_of(today, today_logs)
  local week_visitors, week_is_exact = visitors_of_week(week, sunday)
  if week_visitors < today_visitors then -- the week has lost visitors; it is made again from its days
    redis.call('DEL', week_sketch(week))
    rebuild_week(week, sunday)
    week_visitors, week_is_exact = visitors_of_week(week, sunday)
    week_visitors = math.max(week_visitors, today_visitors)
  end
  local last_week_visitors = 0
  if through < last_sunday then
    rebuild_week(last_week, last_sunday)
    last_week_visitors = visitors_of_week(last_week, last_sunday)
  end
  local online = redis.call('ZCOUNT', ONLINE, '(' .. (now - window_ms), now + SEEN_AHEAD_MS)
  local sums, peak = closed[6] or '', closed[7] or ''
  if has_counted then peak = raise_peak(today, online, now, peak, closed[8]) end
  local exact = (today_is_exact and 'today ' or '') .. (week_is_exact and 'week ' or '')
    .. (total_is_exact and 'total' or '')
  return {
    online,
    today_visitors, today_logs.views,
    week_visitors, week_views,
    total_visitors, total_views,
    tonumber(closed[4] or 0), closed[5] or '',
    now,
    string.sub(sums, 1, #through) == through and sums or '', -- an older version may have closed a day without them
    peak,
    last_week_visitors,
    open_days,
    exact,
  }
end

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
    'exact_at', exact == '1' and read_at or '')
  local highest, highest_at = peak_of(known[3])
  if peak_of(peak) > highest or highest_at * 1000 > soon then redis.call('HSET', CLOSED, 'peak', peak) end
end

-- A salt destroys itself at its end (s since the epoch); the first one offered stays.
local function offer_salt(week, key, ends) redis.call('SET', salt_key(week), key, 'NX', 'EXAT', ends) end
