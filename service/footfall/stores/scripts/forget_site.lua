-- Remove what Redis holds of a site that no program counts any more; everything of it is in Postgres.
-- ARGV: installation, 'look' or 'forget', then for each day that may be in Redis: day, its week.
-- Answers: {OK}, {NOTREADY, installation found}, or {DIRTY, day, ...}: these days are not in Postgres as they are.

local found = redis.call('GET', READY)
if found and found ~= ARGV[1] then return {'NOTREADY', found} end

local answer = {'DIRTY', unpack(redis.call('HKEYS', DIRTY))}
for at = 3, #ARGV, 2 do
  if redis.call('EXISTS', day_pages_dirty(ARGV[at])) == 1 then answer[#answer + 1] = ARGV[at] end
end
if #answer > 1 then return answer end
if ARGV[2] == 'forget' then
  redis.call('DEL', READY, ONLINE, DAYS, DIRTY, CLOSED, PAGE_TOTALS)
  for at = 3, #ARGV, 2 do
    local day, week = ARGV[at], ARGV[at + 1]
    redis.call('DEL', day_sketch(day), day_logs(day), day_pages(day), day_pages_dirty(day), day_ids(day))
    redis.call('DEL', week_sketch(week), week_ids(week), salt_key(week))
  end
end
return {'OK'}
