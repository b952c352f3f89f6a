-- Drop the sketches that Redis itself cannot read any more. A day is dropped with its logs, as if Redis had lost it, and
-- the site is no longer ready: it is restored from Postgres, and the workers send what Postgres lacks.
-- ARGV: installation, then for each day in Redis: day, its week.
-- Answers: {OK, key that was dropped, ...}, or {NOTREADY, installation found}.

local installation = ARGV[1]

local found = redis.call('GET', READY)
if found and found ~= installation then return {'NOTREADY', found} end

local function is_damaged(sketch) -- PFCOUNT would believe the count that is kept in it; PFMERGE reads it all
  local whole = prefix .. 'joining'
  redis.call('DEL', whole)
  local failure = redis.pcall('PFMERGE', whole, sketch).err or ''
  redis.call('DEL', whole)
  -- Not every failure is damage: OOM and READONLY are not.
  return string.find(failure, 'WRONGTYPE') ~= nil or string.find(failure, 'INVALIDOBJ') ~= nil
end

local answer = {'OK'}
for at = 2, #ARGV, 2 do
  local day, week = ARGV[at], ARGV[at + 1]
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
