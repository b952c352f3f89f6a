-- Remember what Postgres has of pages, and merge what it has of the days that are open.
-- ARGV: installation, generation and through of the reading that asked for it, then for each page: the page, its views
--       up to `through`, its later days ('day log_id=views log_id=views;day ...').
-- Answers: {OK, {generation, through, views of each page...}}, or {NOTREADY, installation found}.

local installation, generation, through = unpack(ARGV, 1, 3)

local refused = refusal(installation)
if refused then return refused end

local names = {}
for at = 4, #ARGV, 3 do names[#names + 1] = ARGV[at] end

local function has_later_days() -- what is not in Redis now would be missing, and counted twice when it returns
  for at = 6, #ARGV, 3 do
    for day in string.gmatch(ARGV[at], '(%d%d%d%d%-%d%d%-%d%d) ') do
      if redis.call('EXISTS', day_sketch(day)) == 0 then return false end
    end
  end
  return true
end

local is_current = (redis.call('HGET', PAGE_TOTALS, GENERATION) or '') == generation
if is_current and redis.call('HGET', CLOSED, 'through') == through and has_later_days() then
  local remembered = tonumber(redis.call('HGET', PAGE_TOTALS, REMEMBERED) or 0)
  if remembered + #names > PAGE_TOTALS_MAX then
    forget_page_totals()
    remembered = 0
  end
  local values = {REMEMBERED, string.format('%.0f', remembered + #names)}
  for at = 4, #ARGV, 3 do
    local page, views, later = unpack(ARGV, at, at + 2)
    for day, logs in string.gmatch(later, '(%d%d%d%d%-%d%d%-%d%d) ([^;]+)') do
      for log_id, log_views in string.gmatch(logs, '(%w+)=(%d+)') do
        local entry = redis.call('HGET', day_pages(day), page)
        local merged = with_views(entry or '', log_id, log_views)
        if merged ~= entry then redis.call('HSET', day_pages(day), page, merged) end
      end
    end
    values[#values + 1], values[#values + 2] = page, through .. ':' .. views
  end
  write_hash(PAGE_TOTALS, values)
  if redis.call('TTL', PAGE_TOTALS) == -1 then redis.call('PEXPIRE', PAGE_TOTALS, PAGE_TOTALS_MS) end
end
return {'OK', page_views(names)}
