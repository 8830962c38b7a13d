-- wrk's requests: POST /query as a form, over the locations in the file that LOCATIONS names.
local bodies = {}
for line in io.lines(os.getenv("LOCATIONS")) do
  bodies[#bodies + 1] = "location=" .. line:gsub(" ", "+")
end
local headers = {
  ["Content-Type"] = "application/x-www-form-urlencoded",
  ["Accept"] = "application/json",
}
local count = 0

request = function()
  count = count + 1
  -- 7919 is prime: a walk over all locations in an order that looks random
  return wrk.format("POST", "/query", headers, bodies[(count * 7919) % #bodies + 1])
end
