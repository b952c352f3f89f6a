-- Offer salts and read those in force: the first that any worker offered.
-- ARGV: installation, then for each: week, key, end of its life (s since the epoch).
-- Answers: {OK, key in force, ...}, or {NOTREADY, installation found}.

local installation = ARGV[1]

local refused = refusal(installation)
if refused then return refused end

local answer = {'OK'}
for at = 2, #ARGV, 3 do
  local week, key, ends = unpack(ARGV, at, at + 2)
  offer_salt(week, key, ends)
  answer[#answer + 1] = redis.call('GET', salt_key(week)) or ''
end
return answer
