-- Join days from Postgres into Redis: union of the sketches, and per log the higher number with its views.
-- It may be repeated, and come in any order. With 'ready' it also opens the site for counting, last of all.
-- ARGV: installation, 'ready' or '',
--       read at (us, '' = no closed days given), through, visitors, views, adjustments, revision,
--       number of salts, then for each: week, salt, end of its life (s since the epoch),
--       then for each day: day, its week, that week's Sunday, sketch ('' = none), 'log=seq:views log=seq:views ...'.
-- Answers: {OK}, or {NOTREADY, installation found}.

local installation, opens = ARGV[1], ARGV[2] == 'ready'
local found = redis.call('GET', READY)
if found and found ~= installation or not found and not opens then return {'NOTREADY', found or ''} end

local at = 10
for _ = 1, tonumber(ARGV[9]) do
  local week, salt, ends = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  redis.call('SET', prefix .. 'salt:' .. week, salt, 'NX', 'EXAT', ends)
  at = at + 3
end

for i = at, #ARGV, 5 do
  local day, week, sunday, sketch, logs = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  redis.call('SADD', DAYS, day)
  redis.call('PFADD', day_sketch(day))
  rebuild_week(week, sunday)
  if sketch ~= '' then
    -- PFMERGE reads the registers only; the count that a foreign sketch carries is never believed.
    local joining = prefix .. 'joining'
    redis.call('SET', joining, sketch, 'EX', 60) -- goes by itself if PFMERGE refuses it
    redis.call('PFMERGE', day_sketch(day), joining)
    redis.call('PFMERGE', week_sketch(week), joining)
    redis.call('DEL', joining)
  end
  for _, key in ipairs({day_sketch(day), day_logs(day), week_sketch(week)}) do redis.call('PERSIST', key) end
  -- The next rollup looks at the day again: it confirms it, and gives it back its end of life.
  mark_dirty(day)
  for log, seq, views in string.gmatch(logs, '(%x+)=(%d+):(%d+)') do
    local entry = redis.call('HGET', day_logs(day), log)
    if not entry or split(entry) < tonumber(seq) then redis.call('HSET', day_logs(day), log, seq .. ':' .. views) end
  end
end

if ARGV[3] ~= '' then accept_closed(ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]) end
if opens then redis.call('SET', READY, installation) end
return {'OK'}
