-- Has wrk send prepared requests, which come on standard input: a line with the length, then the request, and so on.

local prepared, next_one = {}, 0

function init()
  for length in function() return io.read('*n') end do
    io.read(1)
    prepared[#prepared + 1] = io.read(length)
  end
end

function request()
  next_one = next_one % #prepared + 1
  return prepared[next_one]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"errors":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d}\n',
    summary.requests, summary.duration, errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
