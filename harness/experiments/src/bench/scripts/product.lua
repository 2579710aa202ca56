-- Another product each time, so that none is waited for; args[1]: the first one's number, args[2]: how many there are.
local first, count, n = 1, 1, 0

function init(args)
  first, count = tonumber(args[1]), tonumber(args[2])
  wrk.method = "PUT"
  wrk.headers["content-type"] = "application/json"
end

function request()
  n = n + 1
  local path = string.format("/products/%d", first + n % count)
  return wrk.format(nil, path, nil, string.format('{"stock":%d}', n % 1000))
end
