-- Merge days from Postgres into a site that is ready.
-- ARGV: installation, then for each day: day, its week, that week's Sunday, sketch, logs, ids, visitors
--       without ids (see merge_day).
-- Answers: {OK}, or {NOTREADY, installation found}.

local installation = ARGV[1]
local found = redis.call('GET', READY)
if found ~= installation then return {'NOTREADY', found or ''} end
merge_days(2)
return {'OK'}
