/* One workload of the benchmark, through the C ABI: a worker that run.py drives.
 *
 *   bench WORKLOAD [KEY=VALUE ...]
 *
 * It prepares, prints a line of JSON, and then, for every number on its standard
 * input, does so many units of work and prints how long they took. pytorch.py and
 * jax_peer.py are the same with PyTorch and JAX.
 */
#define _POSIX_C_SOURCE 200809L
#include <biv.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FEATURES = 19, LAYERS = 5, OPTIONS = 2048 };

static int argument_count;
static char **arguments;

/* The value of KEY=VALUE on the command line. */
static const char *text(const char *key, const char *otherwise) {
  size_t length = strlen(key);
  for (int i = 2; i < argument_count; ++i)
    if (!strncmp(arguments[i], key, length) && arguments[i][length] == '=') return arguments[i] + length + 1;
  return otherwise;
}

static int64_t number(const char *key, int64_t otherwise) {
  const char *value = text(key, NULL);
  return value ? (int64_t)atof(value) : otherwise;
}

static void check(biv_status status) {
  if (status == BIV_OK) return;
  fprintf(stderr, "%s: %s\n", biv_status_name(status), biv_last_error_message());
  exit(EXIT_FAILURE);
}

static void *allocate(int64_t count, size_t size) {
  void *memory = calloc((size_t)count, size);
  if (memory) return memory;
  perror("bench");
  exit(EXIT_FAILURE);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A line of /proc/self/status, in MiB: VmRSS is what is resident, VmHWM the most that ever was. */
static double memory(const char *name) {
  char line[256];
  double kib = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status))
    if (!strncmp(line, name, strlen(name))) kib = atof(line + strlen(name) + 1);
  if (status) fclose(status);
  return kib / 1024;
}

/* Rows of FEATURES numbers, labels that depend on them, and noise of a known variance on each label. */
typedef struct {
  int64_t rows;
  float *features;
  double *labels, *variances;
} table;

static double uniform(uint64_t *state) {
  *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
  return (double)(*state >> 11) / 9007199254740992.0;
}

static table make_table(int64_t rows, uint64_t seed, int noisy) {
  table t = {rows, allocate(rows * FEATURES, sizeof *t.features), allocate(rows, sizeof *t.labels),
             allocate(rows, sizeof *t.variances)};
  for (int64_t i = 0; i < rows; ++i) {
    float *x = t.features + i * FEATURES;
    for (int j = 0; j < FEATURES; ++j) x[j] = (float)uniform(&seed);
    t.variances[i] = -20 * log(1 - uniform(&seed));
    double noise = sqrt(12 * t.variances[i]) * (uniform(&seed) - 0.5);
    t.labels[i] = 10 * sin(3.14159 * x[0] * x[1]) + 20 * pow(x[2] - 0.5, 2) + 10 * x[3] + 5 * x[4];
    if (noisy) t.labels[i] += noise;
  }
  return t;
}

static void free_table(table *t) {
  free(t->features);
  free(t->labels);
  free(t->variances);
  *t = (table){0};
}

static biv_array floats(const float *data, const int64_t *shape, int32_t rank) {
  return (biv_array){data, BIV_F32, rank, shape, NULL, 0};
}

static biv_array doubles(const double *data, const int64_t *rows) {
  return (biv_array){data, BIV_F64, 1, rows, NULL, 0};
}

static biv_dataset *dataset(const table *t) {
  int64_t shape[] = {t->rows, FEATURES};
  biv_array features = floats(t->features, shape, 2), labels = doubles(t->labels, shape),
            variances = doubles(t->variances, shape);
  biv_dataset *out;
  check(biv_dataset_create_from_arrays(&features, &labels, &variances, &out));
  return out;
}

/* What the workloads work on; each uses its part. */
static biv_model *model;
static biv_trainer *trainer;
static biv_dataset *test;
static table rows;
static float *predictions;
static char options[OPTIONS];

/* The sizes from the input to the output of the published network, hidden layers `width` times as wide. */
static void sizes(int64_t out[LAYERS + 1]) {
  const int64_t published[] = {FEATURES, 100, 50, 20, 10, 1};
  for (int i = 0; i <= LAYERS; ++i) out[i] = published[i] * (i % LAYERS ? number("width", 1) : 1);
}

static void make_mlp(void) {
  int64_t n[LAYERS + 1];
  sizes(n);
  snprintf(options, OPTIONS,
           "{\"kind\": \"mlp\", \"inputs\": %d, \"hidden\": [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "]}",
           FEATURES, n[1], n[2], n[3], n[4]);
  check(biv_model_create(options, &model));
}

static void make_trainer(const biv_dataset *data, int64_t batch) {
  snprintf(options, OPTIONS,
           "{\"loss\": {\"kind\": \"biv\", \"epsilon\": 0.1}, \"batch_size\": %" PRId64 ", \"precision\": \"%s\"}",
           number("batch", batch), text("precision", "f32"));
  check(biv_trainer_create(model, data, options, &trainer));
}

static void write_file(const char *name, const void *data, size_t size) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", text("export", "."), name);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, size, file) != size || fclose(file)) {
    perror(path);
    exit(EXIT_FAILURE);
  }
}

/* Leaves data and initial weights for the peers, as raw numbers, and a description that has the normalisation. */
static void export_run(void) {
  int64_t n[LAYERS + 1], used = 0;
  sizes(n);
  float *weights = allocate(1 << 24, sizeof *weights);
  for (int i = 0; i < LAYERS; ++i) {
    char name[32];
    int64_t shape[] = {n[i + 1], n[i]};
    biv_array_out weight = {weights + used, BIV_F32, 2, shape, NULL, 0};
    biv_array_out bias = {weights + used + n[i] * n[i + 1], BIV_F32, 1, shape, NULL, 0};
    snprintf(name, sizeof name, "%d.weight", 2 * i);
    check(biv_model_get_tensor(model, name, &weight));
    snprintf(name, sizeof name, "%d.bias", 2 * i);
    check(biv_model_get_tensor(model, name, &bias));
    used += (n[i] + 1) * n[i + 1];
  }
  write_file("weights", weights, (size_t)used * sizeof *weights);
  write_file("features", rows.features, (size_t)rows.rows * FEATURES * sizeof(float));
  write_file("labels", rows.labels, (size_t)rows.rows * sizeof(double));
  write_file("variances", rows.variances, (size_t)rows.rows * sizeof(double));
  free(weights);
  size_t needed;
  check(biv_model_describe(model, NULL, 0, &needed));
  char *description = allocate((int64_t)needed, 1);
  check(biv_model_describe(model, description, needed, NULL));
  write_file("model.json", description, needed - 1);
  free(description);
}

static void prepare_mlp(void) {
  rows = make_table(number("rows", 7000), 1, 1);
  biv_dataset *data = dataset(&rows);
  make_mlp();
  make_trainer(data, 256);
  biv_dataset_free(data);
  if (text("export", NULL)) export_run();
}

/* The caller's arrays are needed no more. */
static void prepare_step(void) {
  prepare_mlp();
  free_table(&rows);
}

static double step(int64_t count) {
  biv_step report = {.struct_size = sizeof report};
  while (count--) check(biv_trainer_step(trainer, &report));
  return report.loss;
}

/* Steps on the caller's mini-batches, one after the other. */
static double given(int64_t count) {
  static int64_t at;
  biv_step report = {.struct_size = sizeof report};
  int64_t shape[] = {number("batch", 256), FEATURES};
  for (; count--; at += shape[0]) {
    if (at + shape[0] > rows.rows) at = 0;
    biv_array features = floats(rows.features + at * FEATURES, shape, 2), labels = doubles(rows.labels + at, shape),
              variances = doubles(rows.variances + at, shape);
    check(biv_trainer_step_on(trainer, &features, &labels, &variances, &report));
  }
  return report.loss;
}

static void prepare_epoch(void) {
  prepare_step();
  table clean = make_table(3379, 2, 0);
  test = dataset(&clean);
  free_table(&clean);
}

static int32_t keep_loss(void *loss, const biv_epoch *epoch) {
  *(double *)loss = epoch->loss;
  return 0;
}

static double epoch(int64_t count) {
  double loss = 0;
  check(biv_trainer_fit(trainer, count, test, keep_loss, &loss));
  return loss;
}

static double step_and_test(int64_t count) {
  biv_step report = {.struct_size = sizeof report};
  biv_metrics metrics = {.struct_size = sizeof metrics};
  while (count--) {
    check(biv_trainer_step(trainer, &report));
    check(biv_trainer_evaluate(trainer, test, &metrics));
  }
  return metrics.rmse;
}

/* The whole of biv_experiment_run(): from the CSV file to the test error, which it gives. */
static double experiment(int64_t count) {
  double rmse = 0;
  snprintf(options, OPTIONS,
           "{\"data\": \"%s\", \"dataset\": {\"kind\": \"csv\", \"train_size\": 7000, \"test_size\": 3379, \"csv\": "
           "{\"labels\": [\"y\"]}}, \"noise\": {\"distribution\": {\"kind\": \"gamma\", \"mean\": 1, \"variance\": 1}, "
           "\"relative\": true}, \"learning_rate\": 0.001, \"epochs\": 100, \"eval_every\": {\"%s\": 1}}",
           text("csv", ""), text("evaluate", "epochs"));
  while (count--) {
    biv_text *result;
    const char *json;
    check(biv_experiment_run(options, NULL, NULL, &result));
    check(biv_text_get(result, &json));
    const char *last = strstr(json, "\"last\"");
    const char *found = last ? strstr(last, "\"rmse\":") : NULL;
    rmse = found ? atof(found + strlen("\"rmse\":")) : NAN;
    biv_text_free(result);
  }
  return rmse;
}

/* 8 seeds x 2 losses on a small network. */
static double sweep(int64_t count) {
  snprintf(
      options, OPTIONS,
      "{\"jobs\": %" PRId64
      ", \"base\": {\"dataset\": {\"kind\": \"synthetic\", \"train_size\": 2000}, \"model\": "
      "{\"kind\": \"mlp\", \"hidden\": [32, 16]}, \"noise\": {\"distribution\": {\"kind\": \"gamma\", \"mean\": 1, "
      "\"variance\": 1}, \"relative\": true}, \"batch_size\": 64, \"learning_rate\": 0.001, \"epochs\": 40}, "
      "\"grid\": {\"seeds\": [1, 2, 3, 4, 5, 6, 7, 8], \"losses\": [{\"kind\": \"mse\"}, {\"kind\": \"biv\"}]}}",
      number("jobs", 1));
  while (count--) {
    biv_text *result;
    const char *json;
    check(biv_sweep_run(options, NULL, NULL, &result));
    check(biv_text_get(result, &json));
    if (strstr(json, "\"error\":\"")) {
      fprintf(stderr, "sweep: %s\n", json);
      exit(EXIT_FAILURE);
    }
    biv_text_free(result);
  }
  return 0;
}

static void prepare_images(void) {
  biv_dataset *clean, *data;
  check(biv_dataset_create_from_images(text("folder", ""), NULL, &clean));
  check(biv_dataset_add_noise(clean, "{\"distribution\": {\"kind\": \"uniform\", \"low\": 1, \"high\": 100}}", &data));
  snprintf(options, OPTIONS, "{\"kind\": \"%s\", \"height\": 200, \"width\": 200}", text("model", "vanilla_cnn"));
  check(biv_model_create(options, &model));
  make_trainer(data, 64);
  biv_dataset_free(clean);
  biv_dataset_free(data);
}

static void prepare_predict(void) {
  table small = make_table(1000, 1, 1);
  biv_dataset *data = dataset(&small);
  make_mlp();
  make_trainer(data, 256);
  biv_trainer_free(trainer);
  biv_dataset_free(data);
  free_table(&small);
  rows = make_table(number("rows", 100000), 3, 0);
  predictions = allocate(rows.rows, sizeof *predictions);
}

static double predict(int64_t count) {
  int64_t shape[] = {rows.rows, FEATURES};
  biv_array features = floats(rows.features, shape, 2);
  biv_array_out out = {predictions, BIV_F32, 1, shape, NULL, 0};
  while (count--) check(biv_model_predict(model, &features, &out));
  return predictions[0];
}

static double row_count(biv_dataset *data) {
  biv_dataset_info info = {.struct_size = sizeof info};
  check(biv_dataset_get_info(data, &info));
  biv_dataset_free(data);
  return (double)info.rows;
}

static double read_csv(int64_t count) {
  double read = 0;
  while (count--) {
    biv_dataset *data;
    check(biv_dataset_create_from_csv(text("csv", ""), "{\"labels\": [\"y\"]}", &data));
    read = row_count(data);
  }
  return read;
}

static double read_images(int64_t count) {
  double read = 0;
  while (count--) {
    biv_dataset *data;
    check(biv_dataset_create_from_images(text("folder", ""), NULL, &data));
    read = row_count(data);
  }
  return read;
}

static double call_nothing(int64_t count) {
  double sum = 0;
  while (count--) sum += biv_abi_version();
  return sum;
}

static double call_handle(int64_t count) {
  biv_progress progress = {.struct_size = sizeof progress};
  while (count--) check(biv_trainer_get_progress(trainer, &progress));
  return progress.loss;
}

static void nothing(void) {}

static const struct {
  const char *name;
  void (*prepare)(void);
  double (*work)(int64_t count); /* gives a loss or another number that shows what was done */
} workloads[] = {
    {"step", prepare_step, step},
    {"given", prepare_mlp, given},
    {"epoch", prepare_epoch, epoch},
    {"step_and_test", prepare_epoch, step_and_test},
    {"experiment", nothing, experiment},
    {"sweep", nothing, sweep},
    {"images", prepare_images, step},
    {"predict", prepare_predict, predict},
    {"read_csv", nothing, read_csv},
    {"read_images", nothing, read_images},
    {"call_nothing", nothing, call_nothing},
    {"call_handle", prepare_step, call_handle},
};

int main(int argc, char **argv) {
  argument_count = argc, arguments = argv;
  size_t at = 0, count = sizeof workloads / sizeof *workloads;
  while (at < count && strcmp(workloads[at].name, argc > 1 ? argv[1] : "")) ++at;
  if (at == count) {
    fprintf(stderr, "usage: %s WORKLOAD [KEY=VALUE ...]\n", argv[0]);
    return EXIT_FAILURE;
  }
  check(biv_set_num_threads((int32_t)number("threads", 1)));
  workloads[at].prepare();
  const char *info = NULL;
  check(biv_build_info(&info));
  printf("{\"ready\": %s}\n", info);
  fflush(stdout);
  for (long long units; scanf("%lld", &units) == 1;) {
    double start = seconds(), value = workloads[at].work(units), taken = seconds() - start;
    printf("{\"seconds\": %.9f, \"value\": %.9g, \"resident\": %.1f, \"peak\": %.1f}\n", taken, value, memory("VmRSS"),
           memory("VmHWM"));
    fflush(stdout);
  }
  return EXIT_SUCCESS;
}
