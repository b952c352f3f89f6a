-- The views of pages were corrected in Postgres: forget what is remembered of it. From now on they may be lower.
-- ARGV: installation.
-- Answers: {OK}, or {NOTREADY, installation found}.

local refused = refusal(ARGV[1])
if refused then return refused end
redis.call('HSET', PAGE_TOTALS, CORRECTED, string.format('%.0f', now_us()))
forget_page_totals()
return {'OK'}
