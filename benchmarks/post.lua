-- wrk sends each prepared request once, in order: the bot ignores a repeated text.
local file, length

function init(arguments)
  file = assert(io.open(arguments[1], "rb"))
  length = tonumber(arguments[2])
end

function request()
  return file:read(length) or error("the prepared requests are used up")
end

local statuses = {}
function response(status)
  statuses[status] = (statuses[status] or 0) + 1
  if status ~= 200 then refused = (refused or 0) + 1 end
end
