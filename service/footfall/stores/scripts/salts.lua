-- Offer salts and read those in force: the first that were offered, by anybody. They destroy themselves.
-- ARGV: installation, then for each: week, salt, end of its life (s since the epoch).
-- Answers: {OK, salt in force, ...}, or {NOTREADY, installation found}.

local refused = refusal(ARGV[1])
if refused then return refused end

local answer = {'OK'}
for i = 2, #ARGV, 3 do
  local key = prefix .. 'salt:' .. ARGV[i]
  redis.call('SET', key, ARGV[i + 1], 'NX', 'EXAT', ARGV[i + 2])
  answer[#answer + 1] = redis.call('GET', key) or ''
end
return answer
