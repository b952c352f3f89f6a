-- Postgres has committed pages: those that have not changed since are clean.
-- ARGV: installation, then for each page: its day, the page, its last change in the snapshot.
-- Answers: {OK}, or {NOTREADY, installation found}.

local refused = refusal(ARGV[1])
if refused then return refused end

local closed_through = redis.call('HGET', CLOSED, 'through') or ''
local is_late = false
for at = 2, #ARGV, 3 do
  local day, page, last_change = unpack(ARGV, at, at + 2)
  if redis.call('HGET', day_pages_dirty(day), page) == last_change then
    redis.call('HDEL', day_pages_dirty(day), page)
  end
  if day <= closed_through then -- the views came late: Postgres has more of this page than is remembered
    redis.call('HDEL', PAGE_TOTALS, page)
    is_late = true
  end
end
if is_late then redis.call('HSET', PAGE_TOTALS, GENERATION, string.format('%.0f', now_us())) end
return {'OK'}
