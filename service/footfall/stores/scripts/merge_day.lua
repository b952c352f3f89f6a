-- How a day from Postgres enters Redis; redis_connection.py puts it in front of merge.lua and open.lua.

-- Merge a day from Postgres: union of the sketches, and per log the higher seq with its views.
-- It may be repeated, and come in any order. `sketch` '' = none; `logs` is 'log_id=seq:views log_id=seq:views ...'.
local function merge_day(day, week, sunday, sketch, logs)
  redis.call('SADD', DAYS, day)
  redis.call('PFADD', day_sketch(day))
  rebuild_week(week, sunday)
  if sketch ~= '' then
    -- PFMERGE reads the registers only; the count that a foreign sketch carries is never believed.
    local joining = prefix .. 'joining'
    redis.call('SET', joining, sketch, 'EX', 60) -- expires by itself if PFMERGE refuses it
    redis.call('PFMERGE', day_sketch(day), joining)
    redis.call('PFMERGE', week_sketch(week), joining)
    redis.call('DEL', joining)
  end
  for _, key in ipairs({day_sketch(day), day_logs(day), day_pages(day), week_sketch(week)}) do
    redis.call('PERSIST', key)
  end
  -- The next rollup looks at the day again: it confirms the day, and sets its expiry again.
  mark_dirty(day)
  for log_id, seq, views in string.gmatch(logs, '(%x+)=(%d+):(%d+)') do
    local entry = redis.call('HGET', day_logs(day), log_id)
    if not entry or split(entry) < tonumber(seq) then
      redis.call('HSET', day_logs(day), log_id, seq .. ':' .. views)
    end
  end
end

-- The pages of the days stay in Postgres until they are asked for; what Redis remembers of it may lack the merged logs.
local function merge_days(first) -- the rest of ARGV: day, its week, that week's Sunday, sketch, logs; for each day
  for at = first, #ARGV, 5 do merge_day(unpack(ARGV, at, at + 4)) end
  forget_page_totals()
end
