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

-- The moment of this call, in microseconds: whatever it changes has changed at once.
local moment
local function now_us()
  if not moment then
    local time = redis.call('TIME')
    moment = tonumber(time[1]) * 1000000 + tonumber(time[2])
  end
  return moment
end

local function now_ms() return math.floor(now_us() / 1000) end

-- In front of a number in a text. At the moment of a day's change: a program that keeps the sum of its views made it
-- (logs.lua); a former one writes no mark.
local MARK = '0'
local function is_marked(text) return string.sub(text, 1, 1) == MARK end

-- Postgres has not seen this day as it is now. The moment tells the change from all earlier ones; a count of changes
-- would begin at 1 again after each confirmation, and a slow rollup would confirm what came after its snapshot.
local function mark_dirty(day) redis.call('HSET', DIRTY, day, string.format('%s%.0f', MARK, now_us())) end

-- The days that are in Redis, read once in a call.
local listed
local function days_in_redis()
  listed = listed or redis.call('SMEMBERS', DAYS)
  return listed
end

local function list_day(day)
  if redis.call('SADD', DAYS, day) == 1 then listed = nil end
end

-- nil when that installation ('' = not known yet, any) may count this site, else the answer to give.
local function refusal(installation)
  local ready = redis.call('GET', READY)
  if not ready then return {'NOTREADY', ''} end
  if installation ~= '' and installation ~= ready then return {'NOTREADY', ready} end
  return nil
end

local EMPTY_SKETCH_BYTES = 18 -- the header, and one run of 16,384 empty registers

-- Whether Redis has lost the sketch of a day whose logs are still there. The logs say that visitors were counted, and
-- nothing would send them again: a new sketch under these logs would pass for the whole day.
local function has_lost_sketch(day)
  return redis.call('EXISTS', day_sketch(day)) == 0 and redis.call('EXISTS', day_logs(day)) == 1
end

-- The answer where part of a site is lost beside what needs it. Its code is the one that Redis has for a sketch that it
-- cannot read, so the caller runs mend.lua.
local function damaged(what) return redis.error_reply('INVALIDOBJ ' .. what) end
local LOST_SKETCH = 'the sketch is lost beside its logs, '

local function peak_of(entry) -- '41:1795490000000' -> 41, 1795490000000; 0, 0 for none, or what no script of ours wrote
  local online, at = string.match(entry or '', '^(%d+):(%d+)$')
  return tonumber(online or 0), tonumber(at or 0)
end

-- A salt destroys itself at its end (s since the epoch); the first one offered stays.
local function offer_salt(week, key, ends) redis.call('SET', salt_key(week), key, 'NX', 'EXAT', ends) end
