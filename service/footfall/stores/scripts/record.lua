-- Count one batch of one log, once, and answer the site's numbers. Without a batch it only answers them.
-- ARGV: installation, today, week (its Monday), sunday, online window (ms),
--       day of the batch ('' = none), its week, that week's Sunday, log, number, views so far, last seen (ms),
--       visitor ids (16 bytes each), ids to forget online, 'hole' to skip numbers nobody has any more.
-- Answers: {OK|DUP, applied, counts...}, {GAP, applied}, {OLD}, {NOTREADY, installation found}.

local refused = refusal(ARGV[1])
if refused then return refused end

local now = now_ms()
local window_ms = tonumber(ARGV[5])
local answer, applied = 'OK', 0

local function ids(packed, each) -- `unpack` fails at 8,000 values, so callers get them in slices
  for first = 1, #packed, 16 * 1000 do
    local slice = {}
    for at = first, math.min(#packed, first + 16 * 1000 - 1), 16 do
      slice[#slice + 1] = string.sub(packed, at, at + 15)
    end
    each(slice)
  end
end

local day = ARGV[6]
if day ~= '' then
  local log, seq, views = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
  local in_redis = redis.call('EXISTS', day_sketch(day)) == 1
  if not in_redis and day <= (redis.call('HGET', CLOSED, 'through') or '') then return {'OLD'} end

  local entry = redis.call('HGET', day_logs(day), log)
  if entry then applied = split(entry) end
  if seq <= applied then
    answer = 'DUP'
  elseif seq > applied + 1 and ARGV[15] ~= 'hole' then
    return {'GAP', applied}
  else
    -- A script does not roll back. All of this may happen twice without harm ...
    local week = ARGV[7]
    redis.call('SADD', DAYS, day)
    mark_dirty(day)
    redis.call('PFADD', day_sketch(day))
    rebuild_week(week, ARGV[8])
    ids(ARGV[13], function(visitors)
      redis.call('PFADD', day_sketch(day), unpack(visitors))
      redis.call('PFADD', week_sketch(week), unpack(visitors))
    end)
    local seen = math.min(tonumber(ARGV[12]), now)
    if seen > now - window_ms then
      ids(ARGV[13], function(visitors)
        local scored = {}
        for i, id in ipairs(visitors) do scored[2 * i - 1], scored[2 * i] = seen, id end
        redis.call('ZADD', ONLINE, 'GT', unpack(scored))
      end)
      ids(ARGV[14], function(visitors) redis.call('ZREM', ONLINE, unpack(visitors)) end)
      redis.call('PEXPIRE', ONLINE, window_ms)
    end
    redis.call('ZREMRANGEBYSCORE', ONLINE, '-inf', now - window_ms)
    redis.call('PERSIST', day_sketch(day))
    redis.call('PERSIST', day_logs(day))
    redis.call('PERSIST', week_sketch(week))
    -- ... and this, the only write that counts, comes last: an error above has counted nothing.
    redis.call('HSET', day_logs(day), log, string.format('%.0f:%.0f', seq, views))
    applied = seq
  end
end

return {answer, applied, unpack(counts(ARGV[2], ARGV[3], ARGV[4], window_ms, now))}
