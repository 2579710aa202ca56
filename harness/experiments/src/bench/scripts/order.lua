-- One after the other of the three products that every installation has. With arguments (a rate, the beginning of ids, a file): so
-- many orders a second, evenly, whatever the answers do, while a connection is free; into the file goes the id of each, and the
-- time at which it was due, in microseconds since 1970.
local ready, n = {}, 0

local function next_body()
  n = n % 3 + 1
  return string.format('{"product_id":%d,"quantity":1}', n)
end

local function pace(rate, ids, name)
  local ffi = require("ffi")
  ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int clock, moment *now);")
  local clock, file = ffi.new("moment"), assert(io.open(name, "w"))
  local apart, last, due, first, sent = 1e6 / rate, nil, {}, 1, 0

  local function now()
    ffi.C.clock_gettime(0, clock)
    return tonumber(clock.s) * 1e6 + tonumber(clock.ns) / 1e3
  end

  -- Asked before each request of a connection: milliseconds.
  function delay()
    last = (last or now()) + apart
    due[#due + 1] = last
    return math.max(0, (last - now()) / 1e3)
  end

  function request()
    -- wrk asks for one to look at before it begins.
    if due[first] then
      sent = sent + 1
      file:write(ids, sent, " ", string.format("%.0f", due[first]), "\n")
      first = first + 1
    end
    wrk.headers["x-request-id"] = ids .. sent
    return wrk.format(nil, nil, nil, next_body())
  end
end

function init(args)
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  for _ = 1, 3 do
    local body = next_body()
    ready[n] = wrk.format(nil, nil, nil, body)
  end
  if args[1] then pace(args[1], args[2], args[3]) end
end

function request()
  n = n % 3 + 1
  return ready[n]
end
