// client.c in Node with koffi.
const koffi = require('koffi');

const [ROWS, COLUMNS, BIV_OK, BIV_F64] = [256, 8, 0, 2];
const biv = koffi.load(`${process.env.BIV_PREFIX}/lib/libbiv.so`);
koffi.opaque('biv_dataset');
koffi.opaque('biv_model');
koffi.opaque('biv_trainer');
koffi.struct('biv_array', {
  data: 'const double *', dtype: 'int32_t', rank: 'int32_t', shape: 'const int64_t *', strides: 'const int64_t *', size: 'int64_t',
});
const numbers = ['mse', 'rmse', 'mae', 'r2', 'normalized_mse', 'normalized_rmse', 'normalized_mae', 'weighted_rmse',
  'expected_rmse', 'mean_z2', 'nlpd', 'coverage_68', 'coverage_95'];
koffi.struct('biv_metrics', {struct_size: 'size_t', rows: 'int64_t', ...Object.fromEntries(numbers.map(name => [name, 'double']))});
const message = biv.func('const char *biv_last_error_message()');
const setThreads = biv.func('int32_t biv_set_num_threads(int32_t threads)');
const createDataset = biv.func('int32_t biv_dataset_create_from_arrays(const biv_array *features, const biv_array *labels, const biv_array *variances, _Out_ biv_dataset **out)');
const createModel = biv.func('int32_t biv_model_create(const char *options, _Out_ biv_model **out)');
const createTrainer = biv.func('int32_t biv_trainer_create(biv_model *model, const biv_dataset *dataset, const char *options, _Out_ biv_trainer **out)');
const fit = biv.func('int32_t biv_trainer_fit(biv_trainer *trainer, int64_t epochs, const biv_dataset *test, void *callback, void *user)');
const evaluate = biv.func('int32_t biv_trainer_evaluate(const biv_trainer *trainer, const biv_dataset *dataset, _Inout_ biv_metrics *out)');
const freeTrainer = biv.func('void biv_trainer_free(biv_trainer *trainer)');
const freeModel = biv.func('void biv_model_free(biv_model *model)');
const freeDataset = biv.func('void biv_dataset_free(biv_dataset *dataset)');

function check(status) {
  if (status !== BIV_OK) throw new Error(message());
}

function array(data, ...shape) {
  return {data, dtype: BIV_F64, rank: shape.length, shape: BigInt64Array.from(shape, BigInt), strides: null, size: 0};
}

const x = Float64Array.from({length: ROWS * COLUMNS}, (_, i) => i * 37 % 101 / 64);
const y = Float64Array.from({length: ROWS}, (_, i) => x[COLUMNS * i] - 2 * x[COLUMNS * i + 1] * x[COLUMNS * i + 2]);
const v = Float64Array.from({length: ROWS}, (_, i) => (i % 2 ? 0.0625 : 4));
const [data, model, trainer] = [[null], [null], [null]];
check(setThreads(1));
check(createDataset(array(x, ROWS, COLUMNS), array(y, ROWS), array(v, ROWS), data));
check(createModel(process.argv[2], model));
check(createTrainer(model[0], data[0], process.argv[3], trainer));
check(fit(trainer[0], 5, null, null, null));
const metrics = {struct_size: koffi.sizeof('biv_metrics'), rows: 0, ...Object.fromEntries(numbers.map(name => [name, 0]))};
check(evaluate(trainer[0], data[0], metrics));
console.log(metrics.rmse.toPrecision(17));
freeTrainer(trainer[0]);
freeModel(model[0]);
freeDataset(data[0]);
