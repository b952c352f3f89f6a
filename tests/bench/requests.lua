-- Requests as browsers send them, for wrk: 100,000 visitors, 1,000 pages, 2 % robots.
-- Arguments: path of the request ('/seen' or '/counts'), and an ETag to send ('' = none).

local BROWSERS = {
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36',
  'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36',
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1',
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0',
}
local ROBOT = 'Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)'
local VISITORS, PAGES = 100000, 1000
local prepared, next_one = {}, 0

function init(args)
  local path, etag = args[1] or '/seen', args[2] or ''
  math.randomseed(20261123)
  for visitor = 1, VISITORS do
    local headers = {
      ['Host'] = 'bench.example.vn',
      ['User-Agent'] = visitor % 50 == 0 and ROBOT or BROWSERS[visitor % #BROWSERS + 1],
      ['Accept'] = '*/*',
      ['Accept-Language'] = 'vi-VN,vi;q=0.9,en-US;q=0.6,en;q=0.5',
      ['Accept-Encoding'] = 'gzip, deflate, br, zstd',
      ['Origin'] = 'https://bench.example.vn',
      ['Referer'] = 'https://bench.example.vn/',
      ['Sec-Fetch-Dest'] = 'empty',
      ['Sec-Fetch-Mode'] = 'cors',
      ['Sec-Fetch-Site'] = 'cross-site',
      ['X-Forwarded-For'] = string.format('10.%d.%d.%d', visitor / 65536, visitor / 256 % 256, visitor % 256),
    }
    if path == '/seen' then
      headers['Content-Type'] = 'text/plain;charset=UTF-8'
      local body = string.format('{"site":"bench","page":"/tin-tuc/%d","kind":"view"}', math.random(PAGES))
      prepared[visitor] = wrk.format('POST', path, headers, body)
    else
      if etag ~= '' then headers['If-None-Match'] = etag end
      prepared[visitor] = wrk.format('GET', path .. '?site=bench', headers)
    end
  end
  next_one = math.random(VISITORS)
end

function request()
  next_one = next_one % VISITORS + 1
  return prepared[next_one]
end

function done(summary, latency)
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"errors":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d}\n',
    summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
