-- Drop the sketches that Redis itself cannot read any more. A day goes with its logs, as if Redis had lost it, and the site
-- is no longer ready: it is joined from Postgres again, and the workers send what Postgres has not.
-- ARGV: installation, then for each day in Redis: day, its week.
-- Answers: {OK, key that was dropped, ...}, or {NOTREADY, installation found}.

local found = redis.call('GET', READY)
if found and found ~= ARGV[1] then return {'NOTREADY', found} end

local function is_damaged(sketch) -- PFCOUNT would believe the count that is kept in it; PFMERGE reads it all
  local whole = prefix .. 'joining'
  redis.call('DEL', whole)
  local said = redis.pcall('PFMERGE', whole, sketch).err or ''
  redis.call('DEL', whole)
  return string.find(said, 'WRONGTYPE') ~= nil or string.find(said, 'INVALIDOBJ') ~= nil -- and not OOM, READONLY
end

local answer = {'OK'}
for i = 2, #ARGV, 2 do
  local day, week = ARGV[i], ARGV[i + 1]
  if is_damaged(day_sketch(day)) then
    answer[#answer + 1] = day_sketch(day)
    redis.call('DEL', day_sketch(day), day_logs(day), READY)
    redis.call('SREM', DAYS, day)
    redis.call('HDEL', DIRTY, day)
  end
  if is_damaged(week_sketch(week)) then -- made again from its days
    answer[#answer + 1] = week_sketch(week)
    redis.call('DEL', week_sketch(week))
  end
end
return answer
