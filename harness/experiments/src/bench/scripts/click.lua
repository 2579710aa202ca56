-- The same click every time; args[1]: characters that its page has beyond the plain one.
function init(args)
  local page = "/products/123" .. string.rep("x", tonumber(args[1]))
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  wrk.body = string.format('{"user_id":12345,"page":"%s"}', page)
end
