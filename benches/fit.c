/* What a fit costs: the label statistics and the variance model, an epoch with epsilon "auto" against one without, and
 * five networks on all threads against one network on one thread. Prints seconds and ratios; each ratio is of medians
 * of runs in turns.
 *
 *   fit [THREADS]    default 2 */
#include <biv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RUNS 7

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

static void check(biv_status status) {
  if (status != BIV_OK) {
    fprintf(stderr, "%s\n", biv_last_error_message());
    exit(1);
  }
}

static double uniform(void) { return (rand() + 0.5) / (RAND_MAX + 1.0); }

static double normal(void) { return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()); }

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values) {
  qsort(values, RUNS, sizeof *values, ascending);
  return values[RUNS / 2];
}

static double seconds_of_fit(const biv_dataset *data, const char *options, int threads) {
  biv_model *model = NULL;
  check(biv_set_num_threads(threads));
  double start = now();
  check(biv_fit(NULL, data, options, NULL, NULL, &model, NULL));
  double seconds = now() - start;
  biv_model_free(model);
  return seconds;
}

/* The time of `epochs` epochs of one network, as a user's own loop takes them. */
static double seconds_of_training(const biv_dataset *data, int epochs) {
  biv_model *model = NULL;
  biv_trainer *trainer = NULL;
  check(biv_set_num_threads(1));
  check(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 10, \"hidden\": [100, 50]}", &model));
  check(biv_trainer_create(model, data, "{\"loss\": {\"kind\": \"biv\", \"epsilon\": 0.1}}", &trainer));
  double start = now();
  check(biv_trainer_fit(trainer, epochs, NULL, NULL, NULL));
  double seconds = now() - start;
  biv_trainer_free(trainer);
  biv_model_free(model);
  return seconds;
}

static void statistics(int64_t rows) {
  double *x = malloc(rows * sizeof *x), *y = malloc(rows * sizeof *y), *v = malloc(rows * sizeof *v);
  for (int64_t row = 0; row < rows; ++row) {
    v[row] = -25 * log(uniform());
    x[row] = uniform();
    y[row] = 14.4 + 5 * normal() + sqrt(v[row]) * normal();
  }
  biv_array array = {x, BIV_F64, 1, &rows, NULL, rows}, labels = array, variances = array;
  labels.data = y;
  variances.data = v;
  biv_dataset *plain = NULL, *noisy = NULL;
  check(biv_dataset_create_from_arrays(&array, &labels, NULL, &plain));
  check(biv_dataset_create_from_arrays(&array, &labels, &variances, &noisy));
  double with[RUNS], without[RUNS], model[RUNS];
  for (int run = 0; run < RUNS; ++run) {
    const biv_dataset *data[] = {plain, noisy};
    double *seconds[] = {without, with};
    for (int which = 0; which < 2; ++which) {
      biv_model *network = NULL;
      biv_trainer *trainer = NULL;
      check(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 1, \"hidden\": [4]}", &network));
      double start = now();
      check(biv_trainer_create(network, data[which], "{\"loss\": {\"kind\": \"mse\"}}", &trainer));
      seconds[which][run] = now() - start;
      biv_trainer_free(trainer);
      biv_model_free(network);
    }
    biv_variance_model found = {.struct_size = sizeof found};
    for (int64_t row = 0; run == 0 && row < rows; ++row) y[row] -= 14.4;
    double start = now();
    check(biv_variance_model_fit(&labels, &variances, &found));
    model[run] = now() - start;
  }
  double a = median(without), b = median(with);
  printf("%lld rows: variance model %.3f s, label statistics %.3f s (trainer with %.3f, without %.3f)\n",
         (long long)rows, median(model), b - a, b, a);
  biv_dataset_free(plain);
  biv_dataset_free(noisy);
  free(x);
  free(y);
  free(v);
}

int main(int count, char **arguments) {
  int threads = count > 1 ? atoi(arguments[1]) : 2;
  statistics(1000000);
  for (int rows = 3000; rows <= 30000; rows *= 10) {
    char text[200];
    biv_dataset *clean = NULL, *data = NULL;
    snprintf(text, sizeof text, "{\"rows\": %d, \"features\": 10}", rows);
    check(biv_dataset_create_synthetic(text, &clean));
    check(biv_dataset_add_noise(
        clean, "{\"distribution\": {\"kind\": \"gamma\", \"mean\": 3, \"variance\": 9}, \"relative\": true}", &data));
    double one[RUNS], five[RUNS], automatic[RUNS], fixed[RUNS], plain[RUNS];
    for (int run = 0; run < RUNS; ++run) {
      one[run] = seconds_of_training(data, 40);
      five[run] = seconds_of_fit(data, "{\"epochs\": 40}", threads);
      automatic[run] = seconds_of_fit(data, "{\"epochs\": 40}", 1);
      fixed[run] = seconds_of_fit(data, "{\"epochs\": 40, \"loss\": {\"kind\": \"biv\", \"epsilon\": 0.1}}", 1);
      /* As many steps; no held-out rows. */
      plain[run] = seconds_of_training(data, 5 * 40);
    }
    double single = median(one);
    printf("%d rows, 40 epochs: one network on one thread %.3f s; five on %d threads %.2f times that\n", rows, single,
           threads, median(five) / single);
    double together = median(automatic);
    printf("%d rows, one thread: a fit %.2f times one with a fixed epsilon, %.2f times its steps alone\n", rows,
           together / median(fixed), together / median(plain));
    biv_dataset_free(clean);
    biv_dataset_free(data);
  }
  return 0;
}
