-- What wrk asks of netmaster, by the words behind `--` of its command line: a path to get, or `write` and a prefix for the names of what
-- is made. Ends with one line of JSON: numbers of requests, bytes and failures, and microseconds.
local made, prefix = 0, nil

function init(args)
  if args[1] == 'write' then prefix = args[2] end
end

function request()
  if prefix == nil then return wrk.format('GET') end
  made = made + 1
  local name = prefix .. made
  local body = string.format('{"tenantName":"default","policyName":"%s"}', name)
  return wrk.format('POST', '/api/v1/policys/default:' .. name .. '/?wait=0', nil, body)
end

function done(summary, latency)
  local failed = 0
  for _, count in pairs(summary.errors) do failed = failed + count end
  io.write(string.format('\n{"requests":%d,"bytes":%d,"duration":%d,"failed":%d,"median":%d}\n',
    summary.requests, summary.bytes, summary.duration, failed, latency:percentile(50)))
end
