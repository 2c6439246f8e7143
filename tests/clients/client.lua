-- client.c with LuaJIT, whose ffi.cdef reads biv.cdef.h.
local ffi = require("ffi")

local ROWS, COLUMNS = 256, 8
local prefix = os.getenv("BIV_PREFIX")
local header = assert(io.open(prefix .. "/include/biv.cdef.h"))
ffi.cdef(header:read("*a"))
header:close()
local biv = ffi.load(prefix .. "/lib/libbiv.so")

local function check(status)
  if status ~= biv.BIV_OK then error(ffi.string(biv.biv_last_error_message())) end
end

local kept = {}
local function array(memory, ...)
  local shape = ffi.new("int64_t[?]", select("#", ...), ...)
  table.insert(kept, shape)
  return ffi.new("biv_array", { data = memory, dtype = biv.BIV_F64, rank = select("#", ...), shape = shape })
end

local x, y = ffi.new("double[?]", ROWS * COLUMNS), ffi.new("double[?]", ROWS)
local v = ffi.new("double[?]", ROWS)
for i = 0, ROWS * COLUMNS - 1 do x[i] = i * 37 % 101 / 64 end
for i = 0, ROWS - 1 do
  y[i] = x[COLUMNS * i] - 2 * x[COLUMNS * i + 1] * x[COLUMNS * i + 2]
  v[i] = i % 2 == 1 and 0.0625 or 4
end

local data, model, trainer = ffi.new("biv_dataset *[1]"), ffi.new("biv_model *[1]"), ffi.new("biv_trainer *[1]")
check(biv.biv_set_num_threads(1))
check(biv.biv_dataset_create_from_arrays(array(x, ROWS, COLUMNS), array(y, ROWS), array(v, ROWS), data))
check(biv.biv_model_create(arg[1], model))
check(biv.biv_trainer_create(model[0], data[0], arg[2], trainer))
check(biv.biv_trainer_fit(trainer[0], 5, nil, nil, nil))
local metrics = ffi.new("biv_metrics", { struct_size = ffi.sizeof("biv_metrics") })
check(biv.biv_trainer_evaluate(trainer[0], data[0], metrics))
print(string.format("%.17g", metrics.rmse))
biv.biv_trainer_free(trainer[0])
biv.biv_model_free(model[0])
biv.biv_dataset_free(data[0])
