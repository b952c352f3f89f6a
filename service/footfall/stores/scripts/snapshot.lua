-- One atomic look at what Postgres should have of a site.
-- ARGV: installation, 'dirty' or 'all' days, then the weeks whose salts and visitors are wanted: each as its seven days.
-- Answers: {OK, {salt of each week, '' = none}, {visitors of each week, '1' if exact, ...}, {all days in Redis},
--           {{day, changes, sketch, visitors, {log id, 'seq:views', ...}, peak ('' = none), '1' if exact,
--             its ids in no order, where these are all,
--             {page, 'log_id=views log_id=views ...', its last change ('' = none), ...}}, ...}}
--          or {NOTREADY, installation found}.

local installation, wanted = ARGV[1], ARGV[2]

local refused = refusal(installation)
if refused then return refused end

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
for at = 3, #ARGV, 7 do
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
return {'OK', salts, weeks, present, days}
