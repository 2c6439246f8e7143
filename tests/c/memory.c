/* Memory that runs out: a call that needs much of it, in a process that is given little, is an error and no end. Each
 * call has two processes of its own, at once, on a thread that has called before and on one that has not: in both, the
 * same call succeeds when there is memory again. */
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common.h"

enum { ROWS = 1000000, WIDTH = 20, LAYER = 4000 };

static char *folder;
static biv_dataset *data;
static biv_model *model, *shallow;
static biv_trainer *trainer, *with_data;
static float *features;
static double *labels, *numbers;

/* What the calls work on: 80 MB of features, 60 MB of weights. */
static void *prepare(void *unused) {
  char options[200];
  (void)unused;
  /* Threads that start when memory is short need some, too. */
  CHECK_OK(biv_set_num_threads(8));
  features = calloc((size_t)ROWS * WIDTH, sizeof *features);
  labels = calloc(ROWS, sizeof *labels);
  numbers = calloc((size_t)ROWS * WIDTH, sizeof *numbers);
  for (int i = 0; i < ROWS; i++) features[(size_t)i * WIDTH] = (float)(labels[i] = i % 7);
  CHECK_OK(biv_dataset_create_from_arrays(F32(features, ROWS, WIDTH), F64(labels, ROWS), F64(labels, ROWS), &data));
  snprintf(options, sizeof options, "{\"kind\": \"mlp\", \"inputs\": %d, \"hidden\": [%d, %d]}", WIDTH, LAYER, LAYER);
  CHECK_OK(biv_model_create(options, &model));
  CHECK_OK(biv_model_save(model, in(folder, "model.biv")));
  CHECK_OK(biv_trainer_create(model, NULL, NULL, &trainer));
  /* Few enough weights for the library's own kernel. */
  CHECK_OK(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 20, \"hidden\": [60000]}", &shallow));
  CHECK_OK(biv_trainer_create(shallow, data, NULL, &with_data));
  return NULL;
}

static biv_status made(biv_status status, void *handle) {
  CHECK((status == BIV_OK) == (handle != NULL));
  biv_dataset_free(handle);
  biv_model_free(handle);
  biv_trainer_free(handle);
  biv_text_free(handle);
  return status;
}

#define MAKES(function, type, call)      \
  static biv_status function(void) {     \
    type *handle = NULL;                 \
    biv_status status = (call);          \
    return made(status, (void *)handle); \
  }
#define DOES(function, call) \
  static biv_status function(void) { return (call); }

MAKES(create_from_arrays, biv_dataset,
      biv_dataset_create_from_arrays(F32(features, ROWS, WIDTH), F64(labels, ROWS), F64(labels, ROWS), &handle))
MAKES(create_with_std, biv_dataset,
      biv_dataset_create_from_arrays_with_std(F32(features, ROWS, WIDTH), F64(labels, ROWS), F64(labels, ROWS),
                                              &handle))
MAKES(create_synthetic, biv_dataset, biv_dataset_create_synthetic("{\"rows\": 2000000}", &handle))
MAKES(add_noise, biv_dataset,
      biv_dataset_add_noise(data, "{\"distribution\": {\"kind\": \"gamma\", \"mean\": 1, \"variance\": 2}}", &handle))
MAKES(shuffle, biv_dataset, biv_dataset_shuffle(data, 1, &handle))
MAKES(create_model, biv_model,
      biv_model_create("{\"kind\": \"mlp\", \"inputs\": 20, \"hidden\": [5000, 5000]}", &handle))
MAKES(load_model, biv_model, biv_model_load(in(folder, "model.biv"), &handle))
MAKES(create_trainer, biv_trainer, biv_trainer_create(model, data, NULL, &handle))
MAKES(read_csv, biv_dataset, biv_dataset_create_from_csv(in(folder, "data.csv"), "{\"labels\": [\"y\"]}", &handle))
MAKES(read_images, biv_dataset, biv_dataset_create_from_images(in(folder, "faces"), NULL, &handle))
DOES(copy_features, biv_dataset_copy_features(data, F64_OUT(numbers, ROWS, WIDTH)))
DOES(sample_noise, biv_noise_sample("{\"kind\": \"gamma\", \"mean\": 1, \"variance\": 2}", 1, numbers, 5 * ROWS))
DOES(save_model, biv_model_save(model, in(folder, "saved.biv")))
DOES(get_tensor, biv_model_get_tensor(model, "2.weight", F64_OUT(numbers, LAYER, LAYER)))
DOES(set_tensor, biv_model_set_tensor(model, "2.weight", F64(numbers, LAYER, LAYER)))
/* A thread's tile has 64 values of each of 60,000 neurons. */
DOES(predict, biv_model_predict(shallow, F32(features, 20000, WIDTH), F64_OUT(numbers, 20000)))
DOES(save_trainer, biv_trainer_save(trainer, in(folder, "saved.biv")))

static biv_status step(void) {
  biv_step report = SIZED(biv_step);
  return biv_trainer_step(with_data, &report);
}

static biv_status step_on(void) {
  biv_step report = SIZED(biv_step);
  return biv_trainer_step_on(trainer, F32(features, 2000, WIDTH), F64(labels, 2000), F64(labels, 2000), &report);
}

static biv_status split(void) {
  biv_dataset *train = NULL, *test = NULL;
  biv_status status = biv_dataset_split(data, "{\"train_size\": 600000}", &train, &test);
  CHECK((train != NULL) == (status == BIV_OK));
  return made(status, train), made(status, test);
}

static biv_status compute_loss(void) {
  biv_loss_result result = SIZED(biv_loss_result);
  return biv_loss_compute(NULL, F32(features, 5 * ROWS), F32(features, 5 * ROWS), F32(features, 5 * ROWS), &result,
                          F64_OUT(numbers, 5 * ROWS));
}

static const struct {
  const char *name;
  biv_status (*call)(void);
} calls[] = {
#define CALL(function) \
  { #function, function }
    CALL(create_from_arrays),
    CALL(create_with_std),
    CALL(create_synthetic),
    CALL(add_noise),
    CALL(shuffle),
    CALL(split),
    CALL(create_model),
    CALL(load_model),
    CALL(create_trainer),
    CALL(read_csv),
    CALL(read_images),
    CALL(copy_features),
    CALL(sample_noise),
    CALL(save_model),
    CALL(get_tensor),
    CALL(set_tensor),
    CALL(predict),
    CALL(save_trainer),
    CALL(compute_loss),
    CALL(step),
    CALL(step_on)};

/* The process may have `megabytes` more than it has; everything again for -1. */
static void allow(int megabytes) {
  struct rlimit limit;
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = limit.rlim_max;
  if (megabytes >= 0) {
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%ld", &pages) != 1) exit(1);
    fclose(statm);
    limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)megabytes << 20);
  }
  setrlimit(RLIMIT_AS, &limit);
}

/* Takes all the memory that is left, down to the last bytes, as a list. */
static void **take_all(void) {
  void **last = NULL;
  for (size_t size = 64 << 20; size >= sizeof last; size /= 2)
    for (void **more; (more = malloc(size)) != NULL; last = more) *more = last;
  return last;
}

static void give_back(void **last) {
  while (last != NULL) {
    void **next = *last;
    free(last);
    last = next;
  }
}

/* The process that makes one call with no memory but for some bytes, and then with more and more, until it suffices.
 * libtorch's threads are those of the thread that calls it. */
static int starve(const char *name, bool threads_run) {
  struct rlimit no_core = {0, 0};
  pthread_t other;
  setrlimit(RLIMIT_CORE, &no_core);
  if (threads_run) {
    prepare(NULL);
  } else {
    CHECK(pthread_create(&other, NULL, prepare, NULL) == 0);
    CHECK(pthread_join(other, NULL) == 0);
  }
  for (size_t i = 0; i < COUNT(calls); i++) {
    if (strcmp(calls[i].name, name) != 0) continue;
    int refused = 0;
    biv_status status = BIV_OK;
    for (size_t left = 16; left < 4 << 20; left *= 4) {
      void *some = malloc(left);
      allow(0);
      void **all = take_all();
      free(some);
      status = calls[i].call();
      give_back(all);
      allow(-1);
      if (!count_check(status == BIV_ERROR_OUT_OF_MEMORY || status == BIV_OK))
        printf("%s, %zu bytes: %s: %s\n", name, left, biv_status_name(status), biv_last_error_message());
    }
    for (int megabytes = 8; megabytes < 8192; megabytes = megabytes * 3 / 2) {
      allow(megabytes);
      status = calls[i].call();
      allow(-1);
      if (status == BIV_OK) break;
      refused += 1;
      if (!count_check(status == BIV_ERROR_OUT_OF_MEMORY))
        printf("%s, %d MB: %s: %s\n", name, megabytes, biv_status_name(status), biv_last_error_message());
    }
    CHECK(status == BIV_OK);
    /* Else the first limit was no limit. What a thread that ended has left may suffice. */
    CHECK(refused > 0 || !threads_run);
  }
  return failed > 0;
}

/* 200,000 rows of 10 features. */
static void write_csv(const char *path) {
  const char row[] = "0,1,2,3,4,5,6,7,8,9,1\n";
  const size_t length = sizeof row - 1, size = 200001 * length;
  char *text = malloc(size);
  for (size_t at = 0; at < size; at += length) memcpy(text + at, at == 0 ? "a,b,c,d,e,f,g,h,i,j,y\n" : row, length);
  write_file(path, text, size);
  free(text);
}

int main(int argc, char **argv) {
  if (argc == 4) return folder = argv[3], starve(argv[1], strcmp(argv[2], "run") == 0);
#ifdef __SANITIZE_ADDRESS__
  const char *why = "the address sanitizer takes all of the address space";
#else
  const char *why = scaled(0, 1) ? "valgrind does not follow its processes" : NULL;
#endif
  if (why != NULL) {
    skip("memory that runs out", why);
    return report("memory");
  }
  folder = temporary_folder();
  write_csv(in(folder, "data.csv"));
  CHECK_OK(biv_faces_draw(in(folder, "faces"), "{\"count\": 3, \"size\": 1200}"));
  for (size_t i = 0; i < COUNT(calls); i++) {
    char *name = (char *)calls[i].name, *threads[] = {"run", "do not run"};
    pid_t children[COUNT(threads)];
    for (size_t t = 0; t < COUNT(threads); t++) {
      if ((children[t] = fork()) != 0) continue;
      become((char *[]){"memory", name, threads[t], folder, NULL});
      _exit(99);
    }
    for (size_t t = 0; t < COUNT(threads); t++) {
      int status = -1;
      CHECK(waitpid(children[t], &status, 0) == children[t]);
      if (!count_check(status == 0))
        printf("%s, threads %s: ended with status %x\n", name, threads[t], (unsigned)status);
    }
  }
  remove_folder(strdup(in(folder, "faces")));
  remove_folder(folder);
  return report("memory");
}
