-- Ids of views, by which a view that a page sends again counts once; redis_connection.py puts it in front of the scripts
-- that ask. Each set holds the ids (8 random bytes) of two minutes by Redis' clock, and expires two minutes later.

local VIEWS_MS = 120000
local VIEWS_MAX = 100000 -- about 4 MB a set
local VIEW_BYTES = 8

local function views_key(number) return prefix .. 'views:' .. string.format('%.0f', number) end

local function views_keys(now) -- of these two minutes, and of the two before
  local number = math.floor(now / VIEWS_MS)
  return views_key(number), views_key(number - 1)
end

local function split_views(packed)
  local ids = {}
  for at = 1, #packed, VIEW_BYTES do ids[#ids + 1] = string.sub(packed, at, at + VIEW_BYTES - 1) end
  return ids
end

-- Those of some ids whose views are counted, packed. Where there were too many to remember, those that a page sent
-- again pass for counted: never twice.
local function counted_views(ids, repeated, now)
  local known = {}
  local function note(id) known[#known + 1] = id end
  for _, key in ipairs({views_keys(now)}) do
    for at, is_member in ipairs(redis.call('SMISMEMBER', key, unpack(ids))) do
      if is_member == 1 then note(ids[at]) end
    end
    if #repeated > 0 and redis.call('SCARD', key) >= VIEWS_MAX then note(repeated) end
  end
  return table.concat(known)
end

local function remember_views(ids, now)
  local key = views_keys(now)
  local known = redis.call('SCARD', key)
  if known >= VIEWS_MAX then return end
  redis.call('SADD', key, unpack(ids))
  if known == 0 then redis.call('PEXPIRE', key, 2 * VIEWS_MS) end
end
