-- The logs of a day, and the sum of their views; redis_connection.py puts it in front of the scripts that write or sum
-- them.
--
-- An entry is 'seq:views'. The mark in front of its seq means that the visitors of the log are in the sets too, as far
-- as these exist (visitors.lua). Some entries are of no log. Their views are 0, and they merge as logs do:
local DAY_FLOOR, WEEK_FLOOR = 'd', 'e' -- how many visitors the day's set, or its week's, had when it was dropped
local SUM = 'f'                        -- the views of all logs of the day, as a seq; marked where all logs are

-- The sum makes a call as cheap with a thousand logs as with one. Each HSET that changes an entry writes the sum too, so
-- no failure comes between them. It is never taken from elsewhere: a merge adds the views of the logs that it merges.
--
-- A program of before writes entries without the sum. It leaves one of two traces, and `check_sums` looks for both: its
-- moment in `dirty` has no mark, and once it has confirmed the day, what it took over of the closed days stands there
-- without `summed_at`. Should both be lost, the snapshot of the next rollup of the day counts again.

local function split(entry) -- '7:120' or '07:120' -> 7, 120
  local seq, views = string.match(entry, '^(%d+):(%d+)$')
  return tonumber(seq), tonumber(views)
end

local known_logs = {} -- by day: its views, whether all logs have the mark, and the floors

local function sum_entry(logs) return string.format('%s%.0f:0', logs.in_sets and MARK or '', logs.views) end

-- Count what the logs of a day say, all of them, and write the sum where it is missing or wrong; answer the entries too.
local function recount(day)
  local logs = {views = 0, in_sets = true, [DAY_FLOOR] = 0, [WEEK_FLOOR] = 0}
  local entries, sum_at = redis.call('HGETALL', day_logs(day)), nil
  for at = 1, #entries, 2 do
    local log_id, entry = entries[at], entries[at + 1]
    if log_id == SUM then
      sum_at = at + 1
    else
      local seq, views = split(entry)
      logs.views = logs.views + views
      if not is_marked(entry) then logs.in_sets = false end
      if logs[log_id] then logs[log_id] = seq end
    end
  end
  logs.is_empty = #entries == 0
  if logs.is_empty then
    if redis.call('STRLEN', day_sketch(day)) > EMPTY_SKETCH_BYTES then logs.in_sets = false end
  elseif not sum_at or entries[sum_at] ~= sum_entry(logs) then
    mark_dirty(day)
    redis.call('HSET', day_logs(day), SUM, sum_entry(logs))
    sum_at = sum_at or #entries + 2
    entries[sum_at - 1], entries[sum_at] = SUM, sum_entry(logs)
  end
  known_logs[day] = logs
  return logs, entries
end

-- Take over the sum and the floors of a day as they were read; a sum that no script of ours wrote is counted again.
local function take_over(day, sum, day_floor, week_floor)
  local views = string.match(sum or '', '^(%d+):0$')
  if not views then return recount(day) end
  known_logs[day] = {
    views = tonumber(views), in_sets = is_marked(sum),
    [DAY_FLOOR] = day_floor and split(day_floor) or 0, [WEEK_FLOOR] = week_floor and split(week_floor) or 0,
  }
  return known_logs[day]
end

local function read_logs(day)
  if known_logs[day] then return known_logs[day] end
  local found = redis.call('HMGET', day_logs(day), SUM, DAY_FLOOR, WEEK_FLOOR)
  return take_over(day, found[1], found[2], found[3])
end

-- Read the entry of a log, and what read_logs knows, in one command.
local function read_log(day, log_id)
  local found = redis.call('HMGET', day_logs(day), log_id, SUM, DAY_FLOOR, WEEK_FLOOR)
  if not known_logs[day] then take_over(day, found[2], found[3], found[4]) end
  return found[1]
end

-- Write how far a log is applied; `known` is its entry so far, and one without the mark stays so.
local function write_log(day, log_id, known, seq, views, in_sets)
  local logs, views_before = read_logs(day), 0
  if known then
    in_sets, views_before = in_sets and is_marked(known), select(2, split(known))
  end
  logs.views, logs.in_sets = logs.views - views_before + views, (logs.is_empty or logs.in_sets) and in_sets
  logs.is_empty = false
  if logs[log_id] then logs[log_id] = seq end
  local entry = string.format('%s%.0f:%.0f', in_sets and MARK or '', seq, views)
  redis.call('HSET', day_logs(day), log_id, entry, SUM, sum_entry(logs))
end

local function raise_floor(day, floor, visitors, in_sets)
  local known = redis.call('HGET', day_logs(day), floor)
  write_log(day, floor, known, math.max(visitors, known and split(known) or 0), 0, in_sets)
end

-- Whether visitors of a day were counted by logs that are lost: no mark says of these whether they are in the sets.
local function lacks_logs(day, sketch_bytes)
  return sketch_bytes > EMPTY_SKETCH_BYTES and redis.call('EXISTS', day_logs(day)) == 0
end

-- Count again what a program of before has left without its sum. `read_at` and `summed_at` are fields of `closed`, where
-- they have been read.
local function check_sums(read_at, summed_at)
  if not read_at then read_at, summed_at = unpack(redis.call('HMGET', CLOSED, 'read_at', 'summed_at')) end
  if not read_at or read_at ~= summed_at then -- without a reading its trace may be lost too
    for _, day in ipairs(days_in_redis()) do recount(day) end
    if read_at then redis.call('HSET', CLOSED, 'summed_at', read_at) end
  end
  local changes = redis.call('HGETALL', DIRTY)
  for at = 1, #changes, 2 do
    if not is_marked(changes[at + 1]) then
      recount(changes[at])
      mark_dirty(changes[at])
    end
  end
end
