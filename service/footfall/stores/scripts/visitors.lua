-- The visitors of days and weeks: sketches, and sets of ids while they are few; redis_connection.py puts it in front of
-- the scripts that feed or count them.
--
-- While a day or a week is small, a set of its ids stands beside its sketch: the size of the set is the exact number.
-- The sketch sees every id all the same. So the set may be dropped at any moment, and a worker of a version that feeds
-- only the sketch loses nobody: what it writes lacks the mark, and the number is no longer said to be exact.
-- A set begins only beside a sketch that has seen no id, so it never lacks an id of before.

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
  for _, day in ipairs(days_in_redis()) do
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

-- The week is the union of its days; a missing one is made from them. Its set begins where each of its days has one.
local function rebuild_week(week, sunday)
  local bytes = redis.call('STRLEN', week_sketch(week))
  if bytes > 0 then return bytes end
  local sketches, sets, is_whole = {}, {}, true
  for _, day in ipairs(days_in_redis()) do
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
