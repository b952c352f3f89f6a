-- Drop what Redis itself cannot read of a site: keys of another type, sketches, and values that no script of ours wrote.
-- What counts comes back as if Redis had lost it: the site is no longer ready, so it is restored from Postgres, and the
-- workers send what Postgres lacks.
-- ARGV: installation, bytes of a salt, number of names in `days` and `dirty` that are no day, these names,
--       number of weeks whose salts may exist, these weeks, then for each day that may be in Redis: day, its week.
-- Answers: {OK, key that was dropped, ...}, or {NOTREADY, installation found}.

local installation, salt_bytes, no_days = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local first_week = 5 + no_days
local first_day = first_week + tonumber(ARGV[first_week - 1])

local function is_damage(answer) -- not every failure is damage: OOM and READONLY are not
  local failure = type(answer) == 'table' and answer.err or ''
  return string.find(failure, 'WRONGTYPE') ~= nil or string.find(failure, 'INVALIDOBJ') ~= nil
end

local found = redis.pcall('GET', READY)
local ready_is_damaged = is_damage(found)
if type(found) == 'string' and found ~= installation then return {'NOTREADY', found} end

local answer = {'OK'}
local function drop(key)
  answer[#answer + 1] = key
  redis.call('DEL', key)
end

if ready_is_damaged then drop(READY) end
if is_damage(redis.pcall('ZCOUNT', ONLINE, 0, 0)) then drop(ONLINE) end

local function closed_is_damaged()
  local closed = redis.pcall('HMGET', CLOSED, 'through', 'read_at', 'visitors', 'views', 'adjustments', 'revision')
  if is_damage(closed) then return true end
  if redis.call('EXISTS', CLOSED) == 0 then return type(found) == 'string' end -- open.lua writes both
  if not string.match(closed[1] or '', DAY_FORM) or not closed[6] then return true end
  for at = 2, 5 do
    if not string.match(closed[at] or '', '^%-?%d+$') then return true end
  end
  return false
end
if is_damage(redis.pcall('HGET', PAGE_TOTALS, GENERATION)) then drop(PAGE_TOTALS) end
for _, key in ipairs({views_keys(now_ms())}) do
  if is_damage(redis.pcall('SCARD', key)) then drop(key) end
end

if closed_is_damaged() then
  drop(CLOSED)
  redis.call('DEL', READY) -- the total would lack the closed days until the next rollup
end

-- `days` and `dirty` are made again from the keys of the days.
local listed_is_damaged = is_damage(redis.pcall('SMEMBERS', DAYS))
if listed_is_damaged then drop(DAYS) end
local dirty_is_damaged = is_damage(redis.pcall('HKEYS', DIRTY))
if dirty_is_damaged then drop(DIRTY) end
for at = 4, 3 + no_days do
  if redis.call('SREM', DAYS, ARGV[at]) + redis.call('HDEL', DIRTY, ARGV[at]) > 0 then
    answer[#answer + 1] = DAYS .. ' or dirty, a name'
  end
end

for at = first_week, first_day - 1 do
  local salt = redis.pcall('GET', salt_key(ARGV[at]))
  if is_damage(salt) or type(salt) == 'string' and #salt ~= salt_bytes then drop(salt_key(ARGV[at])) end
end

local function has_impossible_registers(sketch) -- 6 bits each in a dense sketch; no hash makes one greater than 51
  local bytes = redis.call('GET', sketch)
  if string.byte(bytes, 5) ~= 0 then return false end
  for at = 17, #bytes - 2, 3 do
    local first, second, third = string.byte(bytes, at, at + 2)
    local four = first + 256 * second + 65536 * third
    for _ = 1, 4 do
      if four % 64 > 51 then return true end
      four = math.floor(four / 64)
    end
  end
  return false
end

local function sketch_is_damaged(sketch) -- PFCOUNT would believe the count that is kept in it; PFMERGE reads it all
  if redis.call('EXISTS', sketch) == 0 then return false end
  local whole = prefix .. 'joining'
  redis.call('DEL', whole)
  local merged = redis.pcall('PFMERGE', whole, sketch)
  redis.call('DEL', whole)
  if type(merged) == 'table' and merged.err then return is_damage(merged) end
  return has_impossible_registers(sketch)
end

-- Whether the pages of a day, or what changed of them, cannot be read. The logs would say that these views are counted.
local function pages_are_damaged(day)
  local pages = redis.pcall('HGETALL', day_pages(day))
  if is_damage(pages) then return true end
  for at = 2, #pages, 2 do
    local rest, logs = string.gsub(pages[at] .. ' ', '%w+=%d+ ', '')
    if rest ~= '' or logs == 0 then return true end
  end
  return is_damage(redis.pcall('HGETALL', day_pages_dirty(day)))
end

local function set_is_damaged(set)
  local ids = redis.pcall('SMEMBERS', set)
  if is_damage(ids) then return true end
  for _, id in ipairs(ids) do
    if #id ~= 16 then return true end
  end
  return false
end

-- What was there of a program that does not keep the sum is not seen any more: the next reading counts again.
local function mark_changed(day)
  redis.call('HDEL', day_logs(day), SUM)
  mark_dirty(day)
end

-- Both numbers go on from the sketches. What said which logs are in the sets may be lost with the logs.
local function drop_sets(day, week) redis.call('DEL', day_ids(day), week_ids(week)) end

local function drop_unreadable_logs(day) -- the sketch stays: it may know visitors whose batches no process has any more
  local dropped = #answer
  if pages_are_damaged(day) then
    redis.call('DEL', day_pages_dirty(day), day_logs(day))
    drop(day_pages(day))
  end
  local logs = redis.pcall('HGETALL', day_logs(day))
  if is_damage(logs) then
    drop(day_logs(day))
  else
    for at = 1, #logs, 2 do
      if not string.match(logs[at], '^%w+$') or not string.match(logs[at + 1], '^%d+:%d+$') then
        redis.call('HDEL', day_logs(day), logs[at])
        answer[#answer + 1] = day_logs(day) .. ', an entry'
      end
    end
  end
  return #answer > dropped
end

for at = first_day, #ARGV, 2 do
  local day, week = ARGV[at], ARGV[at + 1]
  if set_is_damaged(day_ids(day)) then drop(day_ids(day)) end
  if sketch_is_damaged(day_sketch(day)) or has_lost_sketch(day) then
    drop(day_sketch(day))
    drop_sets(day, week)
    redis.call('DEL', day_logs(day), day_pages(day), day_pages_dirty(day), READY)
    redis.call('SREM', DAYS, day)
    redis.call('HDEL', DIRTY, day)
  elseif redis.call('EXISTS', day_sketch(day)) == 1 then
    if drop_unreadable_logs(day) then
      drop_sets(day, week)
      redis.call('DEL', READY)
      mark_changed(day)
    end
    if redis.call('SADD', DAYS, day) == 1 and not listed_is_damaged then answer[#answer + 1] = DAYS .. ', ' .. day end
    if dirty_is_damaged then mark_changed(day) end
  elseif redis.call('HDEL', DIRTY, day) == 1 then -- no rollup could confirm it, and no later day would be closed
    answer[#answer + 1] = DIRTY .. ', a day that is not in Redis'
  end
  if set_is_damaged(week_ids(week)) then drop(week_ids(week)) end
  if sketch_is_damaged(week_sketch(week)) then drop(week_sketch(week)) end -- made again from its days
end
return answer
