-- Restore a site from Postgres and open it for counting; `ready` is written last, so that no half restored state counts.
-- ARGV: installation, read at (us), through, visitors, views, adjustments, revision of the closed days, today, sums, peak,
--       whether exact,
--       number of salts, then for each: week, key, end of its life (s since the epoch),
--       then for each day: day, its week, that week's Sunday, sketch, logs, ids, visitors
--       without ids (see merge_day).
-- Answers: {OK}, or {NOTREADY, installation found}.

local installation, read_at, through, visitors, views, adjustments, revision, today, sums, peak, exact, salts =
  unpack(ARGV, 1, 12)

local found = redis.call('GET', READY)
if found and found ~= installation then return {'NOTREADY', found} end

local first_salt, first_day = 13, 13 + 3 * tonumber(salts)
for at = first_salt, first_day - 1, 3 do offer_salt(unpack(ARGV, at, at + 2)) end
merge_days(first_day)
accept_closed(read_at, through, visitors, views, adjustments, revision, today, sums, peak, exact)
redis.call('SET', READY, installation)
return {'OK'}
