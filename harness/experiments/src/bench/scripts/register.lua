-- An address that nobody has; args[1]: what tells this load from the one before.
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
