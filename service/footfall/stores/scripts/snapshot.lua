-- One atomic look at what Postgres should have of a site.
-- ARGV: installation, 'dirty' or 'all' days,
--       the worker ('' = look whatever others do), for how long a rollup of another one serves (us), and the same of a
--       look at all days: between which servers, and for how long,
--       then the weeks whose salts and visitors are wanted: each as its seven days.
-- Answers: {OK, the moment (us), 'dirty' or 'all' as was looked at, {through, revision of the closed days}, {salt of each week, '' = none}, {visitors of each week, '1' if exact, ...}, {all days in Redis},
--           {{day, changes, sketch, visitors, {log id, 'seq:views', ...}, peak ('' = none), '1' if exact,
--             its ids in no order, where these are all,
--             {page, 'log_id=views log_id=views ...', its last change ('' = none), ...}}, ...}}
--          or {RECENT}: another worker rolls the site up now, or did a moment ago,
--          or {NOTREADY, installation found}.

local installation, wanted, worker, recent_us, servers, all_recent_us = unpack(ARGV, 1, 6)

local refused = refusal(installation)
if refused then return refused end

-- Who looked last, and who had Postgres commit a look at all days. A moment that has not come, of a clock that was ahead,
-- is none.
local now, closed = now_us(), redis.call('HMGET', CLOSED, 'looked', 'looked_at_all', 'through', 'revision')
local function is_recent(by, at, within_us)
  return worker ~= '' and by and by ~= worker and tonumber(at) <= now and now - tonumber(at) < tonumber(within_us)
end
local by, at = string.match(closed[1] or '', '^(%x+):(%d+)$')
if is_recent(by, at, recent_us) then return {'RECENT'} end
local all_by, all_of, all_at = string.match(closed[2] or '', '^(%x+):(%x+):(%d+)$')
if wanted == 'all' and all_of == servers and is_recent(all_by, all_at, all_recent_us) then wanted = 'dirty' end

check_sums()
local present, days, is_listed = {}, {}, {}
for _, day in ipairs(days_in_redis()) do
  if has_lost_sketch(day) then return damaged(LOST_SKETCH .. day) end
  if redis.call('EXISTS', day_sketch(day)) == 1 then
    present[#present + 1], is_listed[day] = day, true
  else
    redis.call('SREM', DAYS, day) -- it has expired; listed, it would not be merged again where it is needed
    redis.call('DEL', day_pages(day), day_pages_dirty(day)) -- a program that knew no pages let them stay
  end
end
for _, day in ipairs(redis.call('HKEYS', DIRTY)) do
  if not is_listed[day] then
    if redis.call('EXISTS', day_sketch(day)) == 1 then return damaged('a changed day is not listed') end
    redis.call('HDEL', DIRTY, day) -- nothing of it is in Redis, and it would keep later days from being closed
  end
end
-- A confirmation ends the sets of the days that are there; those of a day that is lost would outlive their key. A week
-- whose days are all lost ends too, once it is over: until then its number must not fall.
local WEEK_WITHOUT_DAYS_S = 9 * 86400
local function forget_lost_sets(first) -- of a week whose days stand in ARGV from `first` on
  local days_left = 0
  for at = first, first + 6 do
    local is_there = redis.call('EXISTS', day_sketch(ARGV[at]))
    if is_there == 0 then redis.call('DEL', day_ids(ARGV[at])) end
    days_left = days_left + is_there
  end
  if days_left > 0 then return end
  redis.call('DEL', week_ids(ARGV[first]))
  local week = week_sketch(ARGV[first])
  if redis.call('TTL', week) == -1 then redis.call('EXPIRE', week, WEEK_WITHOUT_DAYS_S) end
end

local salts, weeks = {}, {}
for at = 7, #ARGV, 7 do
  local week, sunday = ARGV[at], ARGV[at + 6]
  if wanted == 'all' then forget_lost_sets(at) end
  salts[#salts + 1] = redis.call('GET', salt_key(week)) or ''
  redis.call('PFCOUNT', week_sketch(week)) -- beside a set nothing else would find it damaged
  local visitors, is_exact = visitors_of_week(week, sunday)
  weeks[#weeks + 1], weeks[#weeks + 2] = visitors, is_exact and '1' or ''
end

local function pages_of(day) -- those that changed, or all
  local pages, changed = {}, redis.call('HGETALL', day_pages_dirty(day))
  if wanted == 'all' then
    local changes, all = {}, redis.call('HGETALL', day_pages(day))
    for at = 1, #changed, 2 do changes[changed[at]] = changed[at + 1] end
    for at = 1, #all, 2 do
      pages[#pages + 1], pages[#pages + 2], pages[#pages + 3] = all[at], all[at + 1], changes[all[at]] or ''
    end
  else
    local names = {}
    for at = 1, #changed, 2 do names[#names + 1] = changed[at] end
    for at, entry in ipairs(read_hash(day_pages(day), names)) do
      if entry then
        pages[#pages + 1], pages[#pages + 2], pages[#pages + 3] = names[at], entry, changed[2 * at]
      end
    end
  end
  return pages
end

for _, day in ipairs(present) do
  local changes = redis.call('HGET', DIRTY, day)
  -- A program that knew no pages may have confirmed the day: its pages are still to be copied.
  if changes or wanted == 'all' or redis.call('EXISTS', day_pages_dirty(day)) == 1 then
    redis.call('PFCOUNT', day_sketch(day)) -- before GET: it refreshes the count kept in the sketch
    local logs, entries = recount(day)
    local visitors, is_exact = visitors_of(day, logs)
    days[#days + 1] = {
      day, redis.call('HGET', DIRTY, day) or '', redis.call('GET', day_sketch(day)), visitors, entries,
      redis.call('HGET', CLOSED, 'peak:' .. day) or '',
      is_exact and '1' or '', is_exact and table.concat(redis.call('SMEMBERS', day_ids(day))) or '',
      pages_of(day),
    }
  end
end
if worker ~= '' and (#days > 0 or wanted == 'all') then
  redis.call('HSET', CLOSED, 'looked', string.format('%s:%.0f', worker, now))
end
return {'OK', string.format('%.0f', now), wanted, {closed[3] or '', closed[4] or ''}, salts, weeks, present, days}
