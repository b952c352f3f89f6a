-- Postgres has committed a snapshot: days that have not changed since are clean, and finished ones may expire.
-- ARGV: installation, read at (us), through, visitors, views, adjustments, revision of the closed days, today, sums, peak,
--       whether exact, who looked at all days between which servers and when ('' = not all),
--       number of confirmed days, then for each: day, its last change in the snapshot,
--       then for each day in Redis: day, its week, end of that week (s since the epoch).
-- Answers: {OK}, or {NOTREADY, installation found}.

local installation, read_at, through, visitors, views, adjustments, revision, today, sums, peak, exact,
  looked_at_all, confirmed = unpack(ARGV, 1, 13)

local refused = refusal(installation)
if refused then return refused end

check_sums()
local first_confirmed, first_present = 14, 14 + 2 * tonumber(confirmed)
for at = first_confirmed, first_present - 1, 2 do
  local day, last_change = ARGV[at], ARGV[at + 1]
  if redis.call('HGET', DIRTY, day) == last_change then redis.call('HDEL', DIRTY, day) end
end
accept_closed(read_at, through, visitors, views, adjustments, revision, today, sums, peak, exact)

if looked_at_all ~= '' then redis.call('HSET', CLOSED, 'looked_at_all', looked_at_all) end

local closed_through = redis.call('HGET', CLOSED, 'through') or ''
local two_days_on = math.floor(now_ms() / 1000) + 2 * 86400
local function may_end(day)
  return day <= closed_through and redis.call('HEXISTS', DIRTY, day) == 0
    and redis.call('EXISTS', day_pages_dirty(day)) == 0
end

-- A week's union is needed as long as one of its days is: made again from that day, it would lack who came on those that
-- have ended.
local is_needed = {}
for at = first_present, #ARGV, 3 do
  local day, week = ARGV[at], ARGV[at + 1]
  if not is_needed[week] and not may_end(day) and redis.call('EXISTS', day_sketch(day)) == 1 then
    is_needed[week] = true
    redis.call('PERSIST', week_sketch(week)) -- a former version gave it an end
  end
end
for at = first_present, #ARGV, 3 do
  local day, week, week_ends = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if redis.call('EXISTS', day_sketch(day)) == 0 then
    redis.call('SREM', DAYS, day)
  elseif day > closed_through then -- closed by a clock that was ahead, it may have an expiry
    for _, key in ipairs({day_sketch(day), day_logs(day), day_pages(day), day_ids(day)}) do
      redis.call('PERSIST', key)
    end
  elseif may_end(day) then
    redis.call('HDEL', CLOSED, 'peak:' .. day) -- Postgres has it
    local keys = {day_sketch(day), day_logs(day), day_pages(day)}
    if not is_needed[week] then keys[#keys + 1] = week_sketch(week) end
    for _, key in ipairs(keys) do
      if redis.call('TTL', key) == -1 then redis.call('EXPIREAT', key, math.max(two_days_on, week_ends)) end
    end
    -- The list of ids ends with the key that made them.
    for _, set in ipairs({day_ids(day), week_ids(week)}) do redis.call('EXPIREAT', set, week_ends) end
  end
end
return {'OK'}
