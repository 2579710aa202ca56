-- A new address each time; args[1]: a prefix that no other load has.
local prefix, n = "", 0

function init(args)
  prefix = args[1]
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
end

function request()
  n = n + 1
  return wrk.format(nil, nil, nil, string.format('{"email":"%s-%d@example.org"}', prefix, n))
end
