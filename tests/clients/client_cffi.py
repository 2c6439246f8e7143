"""client.c with Python's cffi, which reads biv.cdef.h."""

import os
import sys

import cffi

ROWS, COLUMNS = 256, 8
prefix, (model_options, trainer_options) = os.environ["BIV_PREFIX"], sys.argv[1:3]
ffi = cffi.FFI()
with open(f"{prefix}/include/biv.cdef.h") as header:
    ffi.cdef(header.read())
biv = ffi.dlopen(f"{prefix}/lib/libbiv.so")


def check(status):
    if status != biv.BIV_OK:
        sys.exit(ffi.string(biv.biv_last_error_message()).decode())


def array(values, *shape):
    memory, sizes = ffi.new("double[]", values), ffi.new("int64_t[]", shape)
    fields = {"data": memory, "dtype": biv.BIV_F64, "rank": len(shape), "shape": sizes}
    return ffi.new("biv_array *", fields), memory, sizes


x = [i * 37 % 101 / 64 for i in range(ROWS * COLUMNS)]
y = [x[COLUMNS * i] - 2 * x[COLUMNS * i + 1] * x[COLUMNS * i + 2] for i in range(ROWS)]
features, labels = array(x, ROWS, COLUMNS), array(y, ROWS)
variances = array([0.0625 if i % 2 else 4 for i in range(ROWS)], ROWS)
data, model, trainer = ffi.new("biv_dataset **"), ffi.new("biv_model **"), ffi.new("biv_trainer **")
check(biv.biv_set_num_threads(1))
check(biv.biv_dataset_create_from_arrays(features[0], labels[0], variances[0], data))
check(biv.biv_model_create(model_options.encode(), model))
check(biv.biv_trainer_create(model[0], data[0], trainer_options.encode(), trainer))
check(biv.biv_trainer_fit(trainer[0], 5, ffi.NULL, ffi.NULL, ffi.NULL))
metrics = ffi.new("biv_metrics *", {"struct_size": ffi.sizeof("biv_metrics")})
check(biv.biv_trainer_evaluate(trainer[0], data[0], metrics))
print(f"{metrics.rmse:.17g}")
biv.biv_trainer_free(trainer[0])
biv.biv_model_free(model[0])
biv.biv_dataset_free(data[0])
