/* The host stays as it was: nothing printed, no handlers, same environment, threads and rounding;
 * and its threads may use the library all at once. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "common.h"

extern char **environ;

enum { STEPS = 40, THREADS = 4 };

/* A piece of everything, errors included. */
static void use_everything(void) {
  biv_dataset *data = noisy_dataset(200, 1);
  biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 16}"), *none = NULL;
  biv_metrics metrics = SIZED(biv_metrics);
  CHECK_OK(biv_trainer_fit(trainer, 2, data, NULL, NULL));
  CHECK_OK(biv_trainer_evaluate(trainer, data, &metrics));
  CHECK_STATUS(biv_trainer_save(trainer, "/no/such/folder/file"), BIV_ERROR_NOT_FOUND, "/no/such");
  CHECK_STATUS(biv_trainer_load("/no/such/file", data, NULL, &none), BIV_ERROR_NOT_FOUND, "/no/such");
  CHECK_STATUS(biv_trainer_create(NULL, data, NULL, &none), BIV_ERROR_INVALID_HANDLE, "NULL");
  int32_t devices = 0;
  CHECK_OK(biv_cuda_device_count(&devices));
  biv_trainer_free(trainer);
  biv_dataset_free(data);
}

/* All of the environment, one string after the other. */
static char *environment(void) {
  size_t length = 1;
  for (char **entry = environ; *entry != NULL; ++entry) length += strlen(*entry) + 1;
  char *text = calloc(1, length);
  for (char **entry = environ; *entry != NULL; ++entry) strcat(strcat(text, *entry), "\n");
  return text;
}

/* How the processor rounds and treats denormal numbers. */
static unsigned floating_point_mode(void) {
#ifdef __SSE__
  return __builtin_ia32_stmxcsr() & 0xffc0;
#else
  return 0;
#endif
}

static void test_the_host_is_left_alone(const char *folder) {
  const char *path = in(folder, "output");
  struct sigaction before[NSIG], after;
  int32_t threads_before = 0, threads_after = 0;
  memset(before, 0, sizeof before);
  for (int number = 1; number < NSIG; ++number) sigaction(number, NULL, &before[number]);
  char *environment_before = environment();
  unsigned arithmetic = floating_point_mode();
  CHECK_OK(biv_get_num_threads(&threads_before));

  fflush(NULL);
  int out = dup(1), err = dup(2), file = open(path, O_CREAT | O_WRONLY, 0600);
  dup2(file, 1);
  dup2(file, 2);
  use_everything();
  off_t written = lseek(file, 0, SEEK_END);
  dup2(out, 1);
  dup2(err, 2);
  close(file);
  close(out);
  close(err);

  CHECK(written == 0);
  for (int number = 1; number < NSIG; ++number) {
    memset(&after, 0, sizeof after);
    sigaction(number, NULL, &after);
    CHECK(after.sa_handler == before[number].sa_handler && after.sa_flags == before[number].sa_flags);
  }
  char *environment_after = environment();
  CHECK(strcmp(environment_before, environment_after) == 0);
  CHECK(arithmetic == floating_point_mode());
  CHECK_OK(biv_get_num_threads(&threads_after));
  CHECK(threads_before == threads_after);
  free(environment_before);
  free(environment_after);
}

static pthread_key_t at_exit;
static biv_status status_at_exit = -1;

/* What a host may do when a thread ends, after the library's own record of the thread is gone. */
static void use_at_exit(void *value) {
  (void)value;
  status_at_exit = biv_get_num_threads(NULL);
}

static void *end_after_use(void *value) {
  int32_t threads = 0;
  CHECK_OK(biv_get_num_threads(&threads));
  pthread_setspecific(at_exit, value);
  return NULL;
}

static void test_calls_at_the_end_of_a_thread(void) {
  pthread_t thread;
  CHECK(pthread_key_create(&at_exit, use_at_exit) == 0);
  CHECK(pthread_create(&thread, NULL, end_after_use, &at_exit) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(status_at_exit == BIV_ERROR_INVALID_ARGUMENT);
}

/* The losses of the first steps of a trainer of one's own. */
static void *train(void *losses) {
  biv_dataset *data = noisy_dataset(200, 1);
  biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 16, \"seed\": 5}");
  for (int i = 0; i < STEPS; ++i) {
    biv_step step = SIZED(biv_step);
    CHECK_OK(biv_trainer_step(trainer, &step));
    ((double *)losses)[i] = step.loss;
  }
  biv_trainer_free(trainer);
  biv_dataset_free(data);
  return NULL;
}

static void test_trainers_on_many_threads(void) {
  double alone[STEPS], together[THREADS][STEPS];
  pthread_t threads[THREADS];
  train(alone);
  for (int i = 0; i < THREADS; ++i) CHECK(pthread_create(&threads[i], NULL, train, together[i]) == 0);
  for (int i = 0; i < THREADS; ++i) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(memcmp(alone, together[i], sizeof alone) == 0);
  }
}

typedef struct {
  biv_trainer *trainer;
  biv_dataset *data;
  atomic_int *ready;
  int steps; /* how many succeeded */
} sharer;

/* Uses what the main thread frees at some moment. */
static void *share(void *user) {
  sharer *s = user;
  for (int i = 0; i < scaled(200, 20); ++i) {
    biv_metrics metrics = SIZED(biv_metrics);
    biv_status status = biv_trainer_step(s->trainer, NULL);
    s->steps += status == BIV_OK;
    CHECK(status == BIV_OK || status == BIV_ERROR_INVALID_HANDLE);
    status = biv_trainer_evaluate(s->trainer, s->data, &metrics);
    CHECK(status == BIV_OK ? metrics.rmse > 0 : status == BIV_ERROR_INVALID_HANDLE);
    if (i == 10) atomic_fetch_add(s->ready, 1);
  }
  return NULL;
}

static void test_one_trainer_on_many_threads(void) {
  for (int early = 0; early < 2; ++early) {
    biv_dataset *data = noisy_dataset(200, 1);
    biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 16}");
    atomic_int ready = 0;
    sharer sharers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; ++i) {
      sharers[i] = (sharer){trainer, data, &ready, 0};
      CHECK(pthread_create(&threads[i], NULL, share, &sharers[i]) == 0);
    }
    while (early && ready < THREADS) usleep(100);
    if (early) biv_dataset_free(data), biv_trainer_free(trainer);
    int64_t steps = 0;
    for (int i = 0; i < THREADS; ++i) {
      CHECK(pthread_join(threads[i], NULL) == 0);
      steps += sharers[i].steps;
    }
    if (!early) {
      biv_progress progress = SIZED(biv_progress);
      CHECK_OK(biv_trainer_get_progress(trainer, &progress));
      CHECK(progress.steps == steps && steps == THREADS * scaled(200, 20));
      biv_trainer_free(trainer);
      biv_dataset_free(data);
    }
  }
}

int main(void) {
  char *folder = temporary_folder();
  test_the_host_is_left_alone(folder);
  test_calls_at_the_end_of_a_thread();
  test_trainers_on_many_threads();
  test_one_trainer_on_many_threads();
  remove_folder(folder);
  return report("host");
}
