-- One after the other of the three products that every installation has.
local ready, n = {}, 0

function init()
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  for product = 1, 3 do
    ready[product] = wrk.format(nil, nil, nil, string.format('{"product_id":%d,"quantity":1}', product))
  end
end

function request()
  n = n % 3 + 1
  return ready[n]
end
