-- The numbers of a site; redis_connection.py puts it in front of record.lua.

local function closed_days(today) -- what is known of them, and the highest `online`; `through` is '' where it is lost
  local found = redis.call('HMGET', CLOSED, 'through', 'visitors', 'views', 'adjustments', 'revision', 'sums', 'peak',
    'peak:' .. today, 'read_at', 'exact_at', 'summed_at')
  return {
    through = found[1] or '', visitors = found[2], views = found[3], adjustments = found[4], revision = found[5],
    sums = found[6], peak = found[7], peak_today = found[8], read_at = found[9], exact_at = found[10],
    summed_at = found[11],
  }
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
local function counts(closed, today, week, sunday, last_week, last_sunday, window_ms, now, has_counted)
  local through = closed.through
  if not string.match(through, DAY_FORM) then return nil, 'the closed days are lost' end
  local total_visitors, total_views, week_views, open_days = tonumber(closed.visitors or 0), tonumber(closed.views or 0), 0, {}
  -- A reading that a worker of an older version has taken over says nothing of it.
  local total_is_exact = closed.exact_at == closed.read_at
  local today_logs = read_logs(today)
  local today_visitors, today_is_exact = visitors_of(today, today_logs)
  for _, day in ipairs(days_in_redis()) do
    local is_in_week, is_open = day >= week and day <= sunday, day > through
    if is_in_week or is_open then
      local logs = read_logs(day)
      if is_in_week then week_views = week_views + logs.views end
      if is_open then
        local visitors, is_exact = today_visitors, today_is_exact
        if day ~= today then visitors, is_exact = visitors_of(day, logs) end
        if visitors == 0 and has_lost_sketch(day) then return nil, LOST_SKETCH .. day end
        total_views = total_views + logs.views
        total_visitors = total_visitors + visitors
        if day ~= today then open_days[#open_days + 1] = {day, visitors, logs.views} end
        total_is_exact = total_is_exact and is_exact
      end
    end
  end
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
  local sums, peak = closed.sums or '', closed.peak or ''
  if has_counted then peak = raise_peak(today, online, now, peak, closed.peak_today) end
  local exact = (today_is_exact and 'today ' or '') .. (week_is_exact and 'week ' or '')
    .. (total_is_exact and 'total' or '')
  return {
    online,
    today_visitors, today_logs.views,
    week_visitors, week_views,
    total_visitors, total_views,
    tonumber(closed.adjustments or 0), closed.revision or '',
    now,
    string.sub(sums, 1, #through) == through and sums or '', -- an older version may have closed a day without them
    peak,
    last_week_visitors,
    open_days,
    exact,
  }
end
