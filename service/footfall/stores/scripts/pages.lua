-- Views of pages; redis_connection.py puts it in front of the scripts that write or read them.
-- What a day has of a page is 'log_id=views log_id=views ...', each number the log's views of the page so far.
-- What Postgres has of a page is remembered as 'through:views': all its days up to and including that one.

local PAGE_TOTALS = prefix .. 'page_totals'
local PAGE_TOTALS_MAX, PAGE_TOTALS_MS = 20000, 86400000 -- days stay longer in Redis after they are closed
-- Fields that no page can be called.
local GENERATION, CORRECTED, REMEMBERED = ' generation', ' corrected', ' remembered'
local SLICE = 1000 -- `unpack` fails at 8,000 values

local function day_pages(day) return prefix .. 'day:' .. day .. ':pages' end
local function day_pages_dirty(day) return day_pages(day) .. ':dirty' end

-- The views of a page with those of a log; the same text where it has at least as many.
local function with_views(entry, log_id, views)
  if entry == '' then return log_id .. '=' .. views end
  local before, known, after = string.match(' ' .. entry, '^(.* ' .. log_id .. '=)(%d+)(.*)$')
  if not known then return entry .. ' ' .. log_id .. '=' .. views end
  if tonumber(known) >= tonumber(views) then return entry end
  return string.sub(before .. views .. after, 2)
end

local function sum_of(entry)
  local sum = 0
  for views in string.gmatch(entry, '=(%d+)') do sum = sum + views end
  return sum
end

local function write_hash(key, values) -- values: field, value, field, value, ...
  for first = 1, #values, SLICE do redis.call('HSET', key, unpack(values, first, math.min(#values, first + SLICE - 1))) end
end

local function read_hash(key, fields)
  local values = {}
  for first = 1, #fields, SLICE do
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, first, math.min(#fields, first + SLICE - 1)))) do
      values[#values + 1] = value
    end
  end
  return values
end

-- Set the views that a log has of pages so far ('views page' lines). It may happen twice without harm, and late.
local function set_page_views(day, log_id, lines)
  local names, views = {}, {}
  for count, name in string.gmatch(lines, '(%d+) ([^\n]+)') do names[#names + 1], views[#views + 1] = name, count end
  local values, changed, moment = {}, {}, string.format('%.0f', now_us())
  for at, entry in ipairs(read_hash(day_pages(day), names)) do
    local merged = with_views(entry or '', log_id, views[at])
    if merged ~= entry then
      values[#values + 1], values[#values + 2] = names[at], merged
      changed[#changed + 1], changed[#changed + 2] = names[at], moment
    end
  end
  write_hash(day_pages_dirty(day), changed)
  write_hash(day_pages(day), values)
end

-- What was remembered of Postgres may lack something: forget it, and whatever is on its way from there.
local function forget_page_totals()
  local corrected = redis.call('HGET', PAGE_TOTALS, CORRECTED) or ''
  redis.call('DEL', PAGE_TOTALS)
  redis.call('HSET', PAGE_TOTALS, GENERATION, string.format('%.0f', now_us()), CORRECTED, corrected)
  redis.call('PEXPIRE', PAGE_TOTALS, PAGE_TOTALS_MS)
end

-- The views of pages: {generation, corrected, through, views of each page, false where it is not remembered}.
local function page_views(names)
  if #names == 0 then return {'', '', ''} end
  local known = redis.call('HMGET', PAGE_TOTALS, GENERATION, CORRECTED)
  local answer = {known[1] or '', known[2] or '', redis.call('HGET', CLOSED, 'through') or ''}
  local totals, from = {}, nil
  for at, total in ipairs(read_hash(PAGE_TOTALS, names)) do
    local through, views = string.match(total or '', '^(%d%d%d%d%-%d%d%-%d%d):(%d+)$')
    if through then
      totals[at] = {through, tonumber(views)}
      if not from or through < from then from = through end
    end
  end
  if from then
    for _, day in ipairs(redis.call('SMEMBERS', DAYS)) do
      if day > from then
        for at, entry in ipairs(read_hash(day_pages(day), names)) do
          if entry and totals[at] and day > totals[at][1] then totals[at][2] = totals[at][2] + sum_of(entry) end
        end
      end
    end
  end
  for at = 1, #names do answer[#answer + 1] = totals[at] and totals[at][2] or false end
  return answer
end

local function names_in(lines) -- the pages of 'views page' lines
  local names = {}
  for name in string.gmatch(lines, '%d+ ([^\n]+)') do names[#names + 1] = name end
  return names
end
