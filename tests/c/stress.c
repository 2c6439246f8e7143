/* Eight threads use the same and different handles at random for BIV_STRESS_SECONDS (default 5): nothing but the
 * statuses that a race can give comes out, and who trains by himself gets the bits of a quiet run. */
#include <pthread.h>
#include <time.h>

#include "common.h"

enum { THREADS = 8, SHARED = 4, PREDICTIONS = 40 };

static biv_dataset *data;
static _Atomic(biv_dataset *) datasets[SHARED];
static _Atomic(biv_model *) models[SHARED];
static _Atomic(biv_trainer *) trainers[SHARED];
static double quiet[PREDICTIONS];
static atomic_bool stop;
static atomic_long calls, private_runs;
static char *folder;

static unsigned next(unsigned *state) { return *state = *state * 1664525u + 1013904223u, *state >> 8; }

/* A call on a handle that another thread may free, train or cancel. */
static void shared_call(biv_status status, const char *what) {
  static const biv_status allowed[] = {BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_BUSY, BIV_ERROR_CANCELLED};
  bool known = false;
  for (size_t i = 0; i < COUNT(allowed); i++) known = known || status == allowed[i];
  if (!count_check(known)) printf("%s: %s: %s\n", what, biv_status_name(status), biv_last_error_message());
  atomic_fetch_add(&calls, 1);
}

static void cancel_nothing(biv_trainer *trainer) { shared_call(biv_trainer_cancel(trainer), "cancel"); }

/* What a private run predicts after three epochs. */
static void train_alone(double *predictions) {
  biv_dataset *own = noisy_dataset(PREDICTIONS, 9);
  biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 10, \"seed\": 4}");
  CHECK_OK(biv_trainer_fit(trainer, 3, own, NULL, NULL));
  static const int64_t shape[] = {PREDICTIONS, 5};
  float features[PREDICTIONS * 5];
  CHECK_OK(biv_dataset_copy_features(own, F32_OUT(features, PREDICTIONS, 5)));
  CHECK_OK(biv_trainer_predict(trainer, &(biv_array){.data = features, .dtype = BIV_F32, .rank = 2, .shape = shape},
                               F64_OUT(predictions, PREDICTIONS)));
  biv_trainer_free(trainer);
  biv_dataset_free(own);
}

static void replace_one(unsigned *random) {
  unsigned at = next(random) % SHARED;
  biv_dataset *dataset = noisy_dataset(20 + (int)(next(random) % 30), 2);
  biv_dataset_free(atomic_exchange(&datasets[at], dataset));
  biv_model_free(atomic_exchange(&models[at], small_model()));
  biv_trainer_free(atomic_exchange(&trainers[at], small_trainer(data, "{\"batch_size\": 10}")));
}

static void *work(void *argument) {
  unsigned random = (unsigned)(uintptr_t)argument;
  char file[40];
  snprintf(file, sizeof file, "%u.biv", random);
  char *path = malloc(strlen(folder) + sizeof file + 1);
  sprintf(path, "%s/%s", folder, file);
  while (!atomic_load(&stop)) {
    unsigned at = next(&random) % SHARED;
    biv_trainer *trainer = trainers[at];
    biv_model *model = models[at], *made = NULL;
    biv_step step = SIZED(biv_step);
    biv_metrics metrics = SIZED(biv_metrics);
    biv_progress progress = SIZED(biv_progress);
    float x[10] = {0};
    double out[2];
    switch (next(&random) % 12) {
      case 0:
        replace_one(&random);
        break;
      case 1:
        shared_call(biv_trainer_fit(trainer, 2, datasets[at], NULL, NULL), "fit");
        break;
      case 2:
        cancel_nothing(trainer);
        break;
      case 3:
        shared_call(biv_trainer_evaluate(trainer, datasets[at], &metrics), "evaluate");
        break;
      case 4:
        shared_call(biv_model_predict(model, F32(x, 2, 5), F64_OUT(out, 2)), "predict");
        break;
      case 5:
        shared_call(biv_trainer_get_progress(trainer, &progress), "progress");
        break;
      case 6:
        shared_call(biv_trainer_save(trainer, path), "save");
        break;
      case 7:
        shared_call(biv_trainer_get_model(trainer, &made), "get_model");
        if (made != NULL) CHECK_OK(biv_model_predict(made, F32(x, 2, 5), F64_OUT(out, 2)));
        biv_model_free(made);
        break;
      case 8: {
        double predictions[PREDICTIONS];
        train_alone(predictions);
        CHECK(memcmp(predictions, quiet, sizeof quiet) == 0);
        atomic_fetch_add(&private_runs, 1);
        break;
      }
      case 9:
        shared_call(biv_trainer_set_learning_rate(trainer, 0.001), "set_learning_rate");
        break;
      default:
        shared_call(biv_trainer_step(trainer, &step), "step");
    }
  }
  free(path);
  return NULL;
}

/* Ends the program where the threads have locked each other out. */
static void *watch(void *unused) {
  (void)unused;
  for (long seen = -1; !atomic_load(&stop); seen = atomic_load(&calls)) {
    for (int second = 0; second < 120 && !atomic_load(&stop); second++) sleep(1);
    if (!atomic_load(&stop) && seen == atomic_load(&calls)) {
      printf("stress: no call has returned for two minutes\n");
      _exit(1);
    }
  }
  return NULL;
}

int main(void) {
  const char *seconds = getenv("BIV_STRESS_SECONDS");
  folder = temporary_folder();
  data = noisy_dataset(60, 1);
  for (int i = 0; i < SHARED; i++) {
    datasets[i] = noisy_dataset(30, 2);
    models[i] = small_model();
    trainers[i] = small_trainer(data, "{\"batch_size\": 10}");
  }
  train_alone(quiet);
  pthread_t threads[THREADS], watcher;
  pthread_create(&watcher, NULL, watch, NULL);
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(i + 1));
  sleep((unsigned)(seconds != NULL ? atoi(seconds) : scaled(5, 1)));
  atomic_store(&stop, true);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  pthread_join(watcher, NULL);
  CHECK(calls > 100 && (private_runs > 0 || scaled(1, 0) == 0));
  printf("stress: %ld calls on shared handles, %ld private runs\n", calls, private_runs);
  for (int i = 0; i < SHARED; i++) {
    biv_dataset_free(datasets[i]);
    biv_model_free(models[i]);
    biv_trainer_free(trainers[i]);
  }
  biv_dataset_free(data);
  remove_folder(folder);
  return report("stress");
}
