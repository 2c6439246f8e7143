"""client.c in Python with the module that SWIG makes of client.i."""

import sys

import client_swig_biv as biv

ROWS, COLUMNS = 256, 8


def check(status):
    if status != biv.BIV_OK:
        sys.exit(biv.biv_last_error_message())


def array(values, *shape):
    memory, sizes, array = biv.doubles(len(values)), biv.sizes(len(shape)), biv.biv_array()
    for i, value in enumerate(values):
        memory[i] = value
    for i, size in enumerate(shape):
        sizes[i] = size
    array.data, array.dtype, array.rank, array.shape = memory.cast(), biv.BIV_F64, len(shape), sizes.cast()
    array.strides, array.size = None, 0
    return array, memory, sizes


x = [i * 37 % 101 / 64 for i in range(ROWS * COLUMNS)]
y = [x[COLUMNS * i] - 2 * x[COLUMNS * i + 1] * x[COLUMNS * i + 2] for i in range(ROWS)]
features, labels = array(x, ROWS, COLUMNS), array(y, ROWS)
variances = array([0.0625 if i % 2 else 4 for i in range(ROWS)], ROWS)
data, model, trainer = biv.new_dataset_out(), biv.new_model_out(), biv.new_trainer_out()
check(biv.biv_set_num_threads(1))
check(biv.biv_dataset_create_from_arrays(features[0], labels[0], variances[0], data))
check(biv.biv_model_create(sys.argv[1], model))
check(biv.biv_trainer_create(biv.model_out_value(model), biv.dataset_out_value(data), sys.argv[2], trainer))
trained = biv.trainer_out_value(trainer)
check(biv.biv_trainer_fit(trained, 5, None, None, None))
metrics = biv.biv_metrics()
metrics.struct_size = 15 * 8
check(biv.biv_trainer_evaluate(trained, biv.dataset_out_value(data), metrics))
print(f"{metrics.rmse:.17g}")
biv.biv_trainer_free(trained)
biv.biv_model_free(biv.model_out_value(model))
biv.biv_dataset_free(biv.dataset_out_value(data))
