-- Remember what Postgres has of pages, and merge what it has of the days that are open.
-- ARGV: installation, generation and through of the reading that asked for it, then for each page: the page, its views
--       up to `through`, its later days ('day log_id=views log_id=views;day ...').
-- A page without any views is not remembered: anyone can make up names.
-- Answers: {OK, what page_views answers}, or {NOTREADY, installation found}.

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

local function is_viewed(page)
  for _, day in ipairs(redis.call('SMEMBERS', DAYS)) do
    if day > through and redis.call('HEXISTS', day_pages(day), page) == 1 then return true end
  end
  return false
end

local unviewed = {}
local is_current = (redis.call('HGET', PAGE_TOTALS, GENERATION) or '') == generation
if is_current and redis.call('HGET', CLOSED, 'through') == through and has_later_days() then
  local values = {}
  for at = 4, #ARGV, 3 do
    local page, views, later = unpack(ARGV, at, at + 2)
    for day, logs in string.gmatch(later, '(%d%d%d%d%-%d%d%-%d%d) ([^;]+)') do
      for log_id, log_views in string.gmatch(logs, '(%w+)=(%d+)') do
        local entry = redis.call('HGET', day_pages(day), page)
        local merged = with_views(entry or '', log_id, log_views)
        if merged ~= entry then redis.call('HSET', day_pages(day), page, merged) end
      end
    end
    if views == '0' and not is_viewed(page) then
      unviewed[page] = true
    else
      values[#values + 1], values[#values + 2] = page, through .. ':' .. views
    end
  end
  local remembered = tonumber(redis.call('HGET', PAGE_TOTALS, REMEMBERED) or 0) + #values / 2
  if remembered > PAGE_TOTALS_MAX then
    forget_page_totals()
    remembered = #values / 2
  end
  values[#values + 1], values[#values + 2] = REMEMBERED, string.format('%.0f', remembered)
  write_hash(PAGE_TOTALS, values)
  if redis.call('TTL', PAGE_TOTALS) == -1 then redis.call('PEXPIRE', PAGE_TOTALS, PAGE_TOTALS_MS) end
end
local answer = page_views(names)
for at, page in ipairs(names) do
  if unviewed[page] then answer[3 + at] = 0 end
end
return {'OK', answer}
