-- How a day from Postgres enters Redis; redis_connection.py puts it in front of merge.lua and open.lua.

-- Merge a day from Postgres: union of the sketches and of the sets, and per log the higher seq with its views.
-- It may be repeated, and come in any order. `sketch` '' = none; `logs` is 'log_id=seq:views log_id=seq:views ...';
-- `ids` are 16 bytes each; `unlisted` is the number of its visitors where their ids do not come along, else ''.
local function merge_day(day, week, sunday, sketch, logs, ids, unlisted)
  local in_sets = unlisted == ''
  local has_marks = in_sets and not lacks_logs(day, redis.call('STRLEN', day_sketch(day)))
  list_day(day)
  redis.call('PFADD', day_sketch(day))
  local week_bytes = rebuild_week(week, sunday)
  if in_sets then
    local feeds_day = size_of(day_ids(day)) > 0 or redis.call('STRLEN', day_sketch(day)) <= EMPTY_SKETCH_BYTES
    local feeds_week = size_of(week_ids(week)) > 0 or week_bytes <= EMPTY_SKETCH_BYTES
    each_slice(ids, function(slice)
      if feeds_day then redis.call('SADD', day_ids(day), unpack(slice)) end
      if feeds_week then redis.call('SADD', week_ids(week), unpack(slice)) end
    end)
    set_sizes = {}
  else
    -- Of a site that is being opened no number has been shown.
    local is_open = redis.call('EXISTS', READY) == 1
    drop_set(day_ids(day), day_sketch(day), day, is_open and DAY_FLOOR)
    drop_set(week_ids(week), week_sketch(week), day, is_open and WEEK_FLOOR)
    if sketch == '' and tonumber(unlisted) > 0 then raise_floor(day, DAY_FLOOR, tonumber(unlisted), false) end
  end
  if sketch ~= '' then
    -- PFMERGE reads the registers only; the count that a foreign sketch carries is never believed.
    local joining = prefix .. 'joining'
    redis.call('SET', joining, sketch, 'EX', 60) -- expires by itself if PFMERGE refuses it
    redis.call('PFMERGE', day_sketch(day), joining)
    redis.call('PFMERGE', week_sketch(week), joining)
    redis.call('DEL', joining)
  end
  each_slice(ids, function(slice) -- its sketch may be damaged
    redis.call('PFADD', day_sketch(day), unpack(slice))
    redis.call('PFADD', week_sketch(week), unpack(slice))
  end)
  local keys = {day_sketch(day), day_logs(day), day_pages(day), week_sketch(week), day_ids(day), week_ids(week)}
  for _, key in ipairs(keys) do
    redis.call('PERSIST', key)
  end
  -- The next rollup looks at the day again: it confirms the day, and sets its expiry again.
  mark_dirty(day)
  for log_id, seq, views in string.gmatch(logs, '(%x+)=(%d+):(%d+)') do
    if log_id ~= SUM then -- it is of other logs than those that meet here
      local entry = read_log(day, log_id)
      if not entry or split(entry) < tonumber(seq) then
        write_log(day, log_id, entry, tonumber(seq), tonumber(views), has_marks)
      end
    end
  end
end

-- The pages of the days stay in Postgres until they are asked for; what Redis remembers of it may lack the merged logs.
local function merge_days(first) -- the rest of ARGV: for each day what merge_day takes
  check_sums()
  for at = first, #ARGV, 7 do merge_day(unpack(ARGV, at, at + 6)) end
  forget_page_totals()
end
