-- Whether Redis takes writes; reading says nothing of it: at maxmemory, on a replica and after a failed save it answers.
-- ARGV: '' to write nothing, or 'keys' to write a key of each kind, which expire within seconds.
-- Answers: {OK}, or the error of the first write.

redis.call('SET', prefix .. 'probe', '', 'XX', 'EX', 10) -- no such key exists, so nothing is written
if ARGV[1] == 'keys' then
  redis.call('SET', prefix .. 'probe', '', 'EX', 10)
  redis.call('HSET', prefix .. 'probe:hash', 'field', 'value')
  redis.call('PEXPIRE', prefix .. 'probe:hash', 10000)
  redis.call('SADD', prefix .. 'probe:set', 'member')
  redis.call('SUNIONSTORE', prefix .. 'probe:union', prefix .. 'probe:set')
  redis.call('PEXPIRE', prefix .. 'probe:set', 10000)
  redis.call('PEXPIRE', prefix .. 'probe:union', 10000)
  redis.call('SCARD', prefix .. 'probe:set')
  redis.call('SMISMEMBER', prefix .. 'probe:set', 'member')
  redis.call('ZADD', prefix .. 'probe:zset', 'GT', 1, 'member')
  redis.call('PEXPIRE', prefix .. 'probe:zset', 10000)
  redis.call('PFADD', prefix .. 'probe:sketch', 'member')
  redis.call('PEXPIRE', prefix .. 'probe:sketch', 10000)
  redis.call('STRLEN', prefix .. 'probe:sketch')
end
return {'OK'}
