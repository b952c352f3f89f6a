-- One atomic look at what Postgres should have of a site.
-- ARGV: installation, 'dirty' or 'all' days, then the weeks whose salts are wanted.
-- Answers: {OK, {salt of each week, '' = none}, {all days in Redis},
--           {{day, changes, sketch, visitors, {log id, 'seq:views', ...}}, ...}}
--          or {NOTREADY, installation found}.

local installation, wanted = ARGV[1], ARGV[2]

local refused = refusal(installation)
if refused then return refused end

local salts = {}
for at = 3, #ARGV do salts[#salts + 1] = redis.call('GET', salt_key(ARGV[at])) or '' end

local present, days, is_listed = {}, {}, {}
for _, day in ipairs(redis.call('SMEMBERS', DAYS)) do
  if has_lost_sketch(day) then return damaged(LOST_SKETCH .. day) end
  if redis.call('EXISTS', day_sketch(day)) == 1 then
    present[#present + 1], is_listed[day] = day, true
  else
    redis.call('SREM', DAYS, day) -- it has expired; listed, it would not be merged again where it is needed
  end
end
for _, day in ipairs(redis.call('HKEYS', DIRTY)) do
  if not is_listed[day] then
    if redis.call('EXISTS', day_sketch(day)) == 1 then return damaged('a changed day is not listed') end
    redis.call('HDEL', DIRTY, day) -- nothing of it is in Redis, and it would keep later days from being closed
  end
end
for _, day in ipairs(present) do
  local changes = redis.call('HGET', DIRTY, day)
  if changes or wanted == 'all' then
    local visitors = redis.call('PFCOUNT', day_sketch(day)) -- before GET: it refreshes the count kept in the sketch
    days[#days + 1] = {
      day, changes or '', redis.call('GET', day_sketch(day)), visitors, redis.call('HGETALL', day_logs(day)),
    }
  end
end
return {'OK', salts, present, days}
