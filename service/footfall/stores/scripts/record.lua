-- Count one batch of one log, once, and answer the site's numbers. Without a batch it only answers them.
-- ARGV: installation, today, week (its Monday), sunday, last week, its Sunday, online window (ms), ids in a day's set at
-- most (twice as many in a week's); then, with a batch: its day, that day's week, that week's Sunday, log id, seq, views
-- so far, last seen (ms), visitor ids (16 bytes each), ids to remove from online, 'skip' to skip seqs that no process has
-- any more, for each page that it touches a line 'views page' with the log's views of it so far, ids of its views (8 bytes
-- each), those of them that pages sent again, and 'new' where no Redis can have applied it; without a batch, its day is
-- '' and the lines name the pages that are asked for.
-- Answers: {OK|DUP, seq that is applied, views of the pages (see page_views), counts...}, {GAP, seq}, {OLD},
-- {SEEN, ids of its views that are counted}, {NOTREADY, installation found}.

local installation, today, week, sunday, last_week, last_sunday, window, exact_up_to, day, day_week, day_sunday, log_id,
  batch_seq, batch_views, batch_seen, visitor_ids, previous_week_ids, skip_gap, pages, view_ids, repeated_ids, is_new = unpack(ARGV)

local refused = refusal(installation)
if refused then return refused end

local closed = closed_days(today)
check_sums(closed.read_at, closed.summed_at)

local now = now_ms()
local window_ms = tonumber(window)
local answer, applied = 'OK', 0

-- Which sets take the ids: those that exist, or begin now. A site beyond its limits pays one EXISTS for the answer.
local function feeding(day_bytes, week_bytes)
  local day_set, week_set = day_ids(day), week_ids(day_week)
  local existing = redis.call('EXISTS', day_set, week_set)
  local day_exists = existing == 2 or existing == 1 and redis.call('EXISTS', day_set) == 1
  local week_exists = existing == 2 or existing == 1 and not day_exists
  local feeds_day = day_exists or day_bytes <= EMPTY_SKETCH_BYTES
  local feeds_week = week_exists or week_bytes <= EMPTY_SKETCH_BYTES
  set_sizes[day_set] = not feeds_day and 0 or nil
  set_sizes[week_set] = not feeds_week and 0 or nil
  return feeds_day, feeds_week
end

if day and day ~= '' then
  local seq, views = tonumber(batch_seq), tonumber(batch_views)
  local sketch_bytes = redis.call('STRLEN', day_sketch(day))
  local in_redis = sketch_bytes > 0
  if not in_redis and has_lost_sketch(day) then return damaged(LOST_SKETCH .. day) end
  -- With its closed days a week's union expires: one made of the rest alone would lack who came on those.
  local lacks_union = day_week ~= week and redis.call('EXISTS', week_sketch(day_week)) == 0
  local needed_after = lacks_union and day_week or not in_redis and day
  if needed_after and needed_after <= closed.through then return {'OLD'} end

  local entry = read_log(day, log_id)
  if entry then applied = split(entry) end
  if seq <= applied then
    answer = 'DUP'
  elseif seq > applied + 1 and skip_gap ~= 'skip' then
    return {'GAP', applied}
  else
    local viewed = split_views(view_ids)
    if #viewed > 0 and is_new == 'new' then
      -- What was sent before may have left its own ids: only here a known id means that another batch has counted it.
      local counted = counted_views(viewed, repeated_ids, now)
      if counted ~= '' then return {'SEEN', counted} end
    end
    local in_sets = entry or not lacks_logs(day, sketch_bytes)
    -- A script does not roll back. All of this may happen twice without harm ...
    list_day(day)
    mark_dirty(day)
    if not in_redis then redis.call('PFADD', day_sketch(day)) end
    if pages ~= '' then set_page_views(day, log_id, pages) end
    local week_bytes = rebuild_week(day_week, day_sunday)
    local feeds_day, feeds_week = feeding(sketch_bytes, week_bytes)
    each_slice(visitor_ids, function(slice)
      -- First into the sets: if it ends here, the next attempt finds them begun.
      if feeds_day then redis.call('SADD', day_ids(day), unpack(slice)) end
      if feeds_week then redis.call('SADD', week_ids(day_week), unpack(slice)) end
      redis.call('PFADD', day_sketch(day), unpack(slice))
      redis.call('PFADD', week_sketch(day_week), unpack(slice))
    end)
    local most = tonumber(exact_up_to)
    if size_of(day_ids(day)) > most then drop_set(day_ids(day), day_sketch(day), day, DAY_FLOOR) end
    if size_of(week_ids(day_week)) > 2 * most then
      drop_set(week_ids(day_week), week_sketch(day_week), day, WEEK_FLOOR)
    end
    -- Redis' clock was ahead; before GT, which would keep such a moment for a visitor who is back.
    redis.call('ZREMRANGEBYSCORE', ONLINE, '(' .. (now + SEEN_AHEAD_MS), '+inf')
    local seen = math.min(tonumber(batch_seen), now)
    if seen > now - window_ms then
      each_slice(visitor_ids, function(slice)
        local scored = {}
        for i, id in ipairs(slice) do scored[2 * i - 1], scored[2 * i] = seen, id end
        redis.call('ZADD', ONLINE, 'GT', unpack(scored))
      end)
      each_slice(previous_week_ids, function(slice) redis.call('ZREM', ONLINE, unpack(slice)) end)
      redis.call('PEXPIRE', ONLINE, window_ms)
    end
    redis.call('ZREMRANGEBYSCORE', ONLINE, '-inf', now - window_ms)
    keep_forever(day_sketch(day), day_ids(day))
    redis.call('PERSIST', day_logs(day))
    redis.call('PERSIST', day_pages(day))
    keep_forever(week_sketch(day_week), week_ids(day_week))
    if #viewed > 0 then remember_views(viewed, now) end
    -- ... and this, the only write that counts, comes last: an error above has counted nothing. It writes the sum too.
    write_log(day, log_id, entry, seq, views, in_sets)
    applied = seq
  end
end

local has_counted = day and day ~= '' and answer == 'OK'
if not has_counted or day_week ~= week then rebuild_week(week, sunday) end
local numbers, lost = counts(closed, today, week, sunday, last_week, last_sunday, window_ms, now, has_counted)
if not numbers then return damaged(lost) end
return {answer, applied, page_views(names_in(pages or '')), unpack(numbers)}
