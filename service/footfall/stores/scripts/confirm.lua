-- Postgres has committed a snapshot: what did not change since is no longer dirty, and what is finished may expire.
-- ARGV: installation, read at (us), through, visitors, views, adjustments, revision,
--       number of confirmed days, then for each: day, its last change in the snapshot,
--       then for each day in Redis: day, its week, end of that week (s since the epoch).
-- Answers: {OK}, or {NOTREADY, installation found}.

local refused = refusal(ARGV[1])
if refused then return refused end

local at = 9
for _ = 1, tonumber(ARGV[8]) do
  if redis.call('HGET', DIRTY, ARGV[at]) == ARGV[at + 1] then redis.call('HDEL', DIRTY, ARGV[at]) end
  at = at + 2
end
accept_closed(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])

local through = redis.call('HGET', CLOSED, 'through') or ''
local two_days_on = math.floor(now_ms() / 1000) + 2 * 86400
for i = at, #ARGV, 3 do
  local day, week, week_ends = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  if redis.call('EXISTS', day_sketch(day)) == 0 then
    redis.call('SREM', DAYS, day)
  elseif day <= through and redis.call('HEXISTS', DIRTY, day) == 0 then
    for _, key in ipairs({day_sketch(day), day_logs(day), week_sketch(week)}) do
      if redis.call('TTL', key) == -1 then redis.call('EXPIREAT', key, math.max(two_days_on, week_ends)) end
    end
  end
end
return {'OK'}
