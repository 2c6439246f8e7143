/* Trains one network with several losses on labels of known noise, and compares
 * how well each predicts clean labels that it never saw.
 *
 *   demo             synthetic data (Friedman's function), in seconds
 *   demo hour.csv    Bike Sharing with noise as in the published experiment
 *
 * Every label has a noise variance of its own. BIV, plain inverse variance and
 * the cutoffs are told those variances; MSE is not.
 */
#define _POSIX_C_SOURCE 200809L
#include <biv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_SEEDS = 5, MAX_METHODS = 9, OPTIONS = 512 };

typedef struct {
  const char *title;
  const char *file; /* NULL for the synthetic data */
  const char *hidden;
  const char *noise;         /* the distribution of the variances, JSON */
  const char *relative;      /* "true" when they are multiples of the labels' own variance */
  const double *cutoffs;     /* thresholds, in the square of the labels' unit */
  const char *const *labels; /* their names */
  int cutoff_count, train_size, test_size, seeds, epochs;
} experiment;

/* The labels of the synthetic data have a variance of 23.8. */
static const double friedman_cutoffs[] = {23.8 / 4, 23.8, 23.8 * 4};
static const char *const friedman_labels[] = {"cutoff mu/4", "cutoff mu", "cutoff 4 mu"};
static const experiment friedman = {
    .title = "Friedman's function, noise variance mu on average that of the labels (gamma)",
    .hidden = "[64, 32]",
    .noise = "{\"kind\": \"gamma\", \"mean\": 1, \"variance\": 2}",
    .relative = "true",
    .cutoffs = friedman_cutoffs,
    .labels = friedman_labels,
    .cutoff_count = 3,
    .train_size = 4000,
    .test_size = 2000,
    .seeds = 3,
    .epochs = 60,
};

static const double bike_cutoffs[] = {5000, 10000, 20000, 40000, 100000};
static const char *const bike_labels[] = {"cutoff mu/4", "cutoff mu/2", "cutoff mu", "cutoff 2 mu", "cutoff 5 mu"};
static const experiment bike = {
    .title = "Bike Sharing, noise variance mu = 20000 on average (gamma)",
    .hidden = "[100, 50, 20, 10]",
    .noise = "{\"kind\": \"gamma\", \"mean\": 20000, \"variance\": 4e8}",
    .relative = "false",
    .cutoffs = bike_cutoffs,
    .labels = bike_labels,
    .cutoff_count = 5,
    .train_size = 7000,
    .test_size = 3379,
    .seeds = 5,
    .epochs = 100,
};

typedef struct {
  char name[64];
  char loss[OPTIONS]; /* JSON */
  int clean;          /* trains on labels without noise */
  double final[MAX_SEEDS], best[MAX_SEEDS];
  double effective_batch_size;
} method;

/* Checks a call. A demo may end the program; the library never does. */
static void check(biv_status status) {
  if (status != BIV_OK) {
    fprintf(stderr, "\n%s: %s\n", biv_status_name(status), biv_last_error_message());
    exit(EXIT_FAILURE);
  }
}

static int list_methods(const experiment *e, method *methods) {
  int count = 0;
  snprintf(methods[count].name, sizeof methods[count].name, "mse, clean labels");
  snprintf(methods[count].loss, OPTIONS, "{\"kind\": \"mse\"}");
  methods[count++].clean = 1;
  snprintf(methods[count].name, sizeof methods[count].name, "mse");
  snprintf(methods[count++].loss, OPTIONS, "{\"kind\": \"mse\"}");
  for (int i = 0; i < e->cutoff_count; ++i) {
    snprintf(methods[count].name, sizeof methods[count].name, "%s", e->labels[i]);
    snprintf(methods[count++].loss, OPTIONS, "{\"kind\": \"cutoff_mse\", \"threshold\": %g}", e->cutoffs[i]);
  }
  snprintf(methods[count].name, sizeof methods[count].name, "inverse variance");
  snprintf(methods[count++].loss, OPTIONS, "{\"kind\": \"iv\", \"epsilon\": 0.1}");
  snprintf(methods[count].name, sizeof methods[count].name, "BIV");
  snprintf(methods[count++].loss, OPTIONS, "{\"kind\": \"biv\", \"epsilon\": 0.1}");
  return count;
}

typedef struct {
  const experiment *experiment;
  method *method;
  int seed, run, runs;
  int terminal; /* whether to show progress in place, instead of a line for each run */
} progress;

/* After each epoch: records the test error and shows the progress. */
static int32_t on_epoch(void *user, const biv_epoch *epoch) {
  progress *p = user;
  const experiment *e = p->experiment;
  double rmse = epoch->test->rmse;
  p->method->effective_batch_size += epoch->effective_batch_size / e->epochs / e->seeds;
  p->method->final[p->seed] = rmse;
  if (epoch->epoch == 1 || rmse < p->method->best[p->seed]) p->method->best[p->seed] = rmse;
  int last = epoch->epoch == e->epochs;
  if (p->terminal || last)
    fprintf(stderr, "%s[%2d/%2d] %-18s seed %d  epoch %3d  test RMSE %8.3f%s", p->terminal ? "\r" : "", p->run, p->runs,
            p->method->name, p->seed, (int)epoch->epoch, rmse, p->terminal ? " " : "\n");
  return 0;
}

static void train(const experiment *e, method *m, const biv_dataset *data, const biv_dataset *test, progress *p) {
  char options[2 * OPTIONS];
  biv_dataset_info info = {.struct_size = sizeof info};
  check(biv_dataset_get_info(data, &info));

  biv_model *model;
  snprintf(options, sizeof options, "{\"kind\": \"mlp\", \"inputs\": %d, \"hidden\": %s, \"seed\": %d}",
           (int)info.features, e->hidden, p->seed);
  check(biv_model_create(options, &model));

  biv_trainer *trainer;
  snprintf(options, sizeof options, "{\"loss\": %s, \"learning_rate\": 0.001, \"seed\": %d}", m->loss, p->seed);
  check(biv_trainer_create(model, data, options, &trainer));
  check(biv_trainer_fit(trainer, e->epochs, test, on_epoch, p));
  biv_trainer_free(trainer);
  biv_model_free(model);
}

/* One seed: a new split, new noise, and every method on the same data. */
static void run_seed(const experiment *e, method *methods, int count, int seed) {
  char options[2 * OPTIONS];
  biv_dataset *all, *clean, *noisy, *test;
  if (e->file) {
    check(biv_dataset_create_named("bike", e->file, &all));
  } else {
    snprintf(options, sizeof options, "{\"rows\": %d, \"seed\": %d}", e->train_size + e->test_size, seed);
    check(biv_dataset_create_synthetic(options, &all));
  }
  snprintf(options, sizeof options, "{\"train_size\": %d, \"test_size\": %d, \"seed\": %d}", e->train_size,
           e->test_size, seed);
  check(biv_dataset_split(all, options, &clean, &test));
  snprintf(options, sizeof options, "{\"distribution\": %s, \"relative\": %s, \"seed\": %d}", e->noise, e->relative,
           seed);
  check(biv_dataset_add_noise(clean, options, &noisy));

  for (int i = 0; i < count; ++i) {
    progress p = {e, &methods[i], seed, seed * count + i + 1, e->seeds * count, isatty(2)};
    train(e, &methods[i], methods[i].clean ? clean : noisy, test, &p);
  }
  biv_dataset_free(all);
  biv_dataset_free(clean);
  biv_dataset_free(noisy);
  biv_dataset_free(test);
}

static double mean(const double *values, int count) {
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += values[i];
  return sum / count;
}

static double spread(const double *values, int count) {
  double center = mean(values, count), sum = 0;
  for (int i = 0; i < count; ++i) sum += (values[i] - center) * (values[i] - center);
  return sqrt(sum / (count - 1));
}

static void print_table(const experiment *e, const method *methods, int count) {
  if (isatty(2)) fprintf(stderr, "\r%79s\r", "");
  printf("%s\n%d training rows, %d epochs, %d seeds; RMSE on %d clean test labels\n\n", e->title, e->train_size,
         e->epochs, e->seeds, e->test_size);
  printf("%-26s %18s %18s %10s\n", "loss", "RMSE at the end", "RMSE at its best", "EBS of 256");
  for (int i = 0; i < count; ++i) {
    const method *m = &methods[i];
    printf("%-26s %9.3f +- %5.3f %9.3f +- %5.3f %10.1f\n", m->name, mean(m->final, e->seeds),
           spread(m->final, e->seeds), mean(m->best, e->seeds), spread(m->best, e->seeds), m->effective_batch_size);
  }
}

/* Compares BIV with MSE and the best cutoff in one sentence. */
static void print_verdict(const experiment *e, const method *methods, int count) {
  const method *biv = &methods[count - 1], *mse = &methods[1], *cutoff = &methods[2];
  for (int i = 3; i < 2 + e->cutoff_count; ++i)
    if (mean(methods[i].final, e->seeds) < mean(cutoff->final, e->seeds)) cutoff = &methods[i];
  double ours = mean(biv->final, e->seeds);
  printf("\nAt the end BIV's RMSE is %.0f %% below MSE's and %.0f %% below that of the best cutoff (%s).\n",
         100 * (1 - ours / mean(mse->final, e->seeds)), 100 * (1 - ours / mean(cutoff->final, e->seeds)), cutoff->name);
}

int main(int argc, char **argv) {
  static method methods[MAX_METHODS];
  if (argc > 2) {
    fprintf(stderr, "usage: %s [hour.csv]\n", argv[0]);
    return EXIT_FAILURE;
  }
  experiment e = argc == 2 ? bike : friedman;
  e.file = argv[1];
  int count = list_methods(&e, methods);
  for (int seed = 0; seed < e.seeds; ++seed) run_seed(&e, methods, count, seed);
  print_table(&e, methods, count);
  print_verdict(&e, methods, count);
  return EXIT_SUCCESS;
}
