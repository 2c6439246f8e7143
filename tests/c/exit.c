/* Processes that end while their threads train: main returns or calls exit(), the host's own handlers run, and nothing
 * crashes or hangs. BIV_EXITS=N for N processes of each kind (1). */
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#include "common.h"

enum { STATUS = 7, THREADS = 2 };

static atomic_bool ending;

/* An image network, or the multi-layer perceptron. */
static biv_trainer *trainer_of(bool images, const char *precision) {
  enum { ROWS = 12, SIZE = 24 };
  biv_model *model = NULL;
  biv_dataset *data = NULL;
  biv_trainer *trainer = NULL;
  char options[100];
  snprintf(options, sizeof options, "{\"batch_size\": 4, \"precision\": \"%s\", \"loss\": {\"kind\": \"mse\"}}",
           precision);
  if (images) {
    static float pixels[ROWS * 3 * SIZE * SIZE];
    static double ages[ROWS];
    for (size_t i = 0; i < COUNT(pixels); ++i) pixels[i] = (float)(i * 7919 % 256);
    for (int i = 0; i < ROWS; ++i) ages[i] = i;
    CHECK_OK(biv_dataset_create_from_arrays(F32(pixels, ROWS, 3, SIZE, SIZE), F64(ages, ROWS), NULL, &data));
    CHECK_OK(biv_model_create("{\"kind\": \"resnet\", \"depth\": 18, \"height\": 24, \"width\": 24}", &model));
    CHECK_OK(biv_trainer_create(model, data, options, &trainer));
  } else {
    trainer = small_trainer(noisy_dataset(200, 1), options);
  }
  return trainer;
}

/* Trains to the end of the process, and once it is near would use what the library has freed. */
static void *train(void *trainer) {
  biv_status status = biv_trainer_fit(trainer, 1000000000, NULL, NULL, NULL);
  for (; atomic_load(&ending); usleep(1000)) biv_trainer_step(trainer, NULL);
  printf("the fit ended with %s: %s\n", biv_status_name(status), biv_last_error_message());
  return NULL;
}

static void say_that_it_ends(void) {
  atomic_store(&ending, true);
  if (write(1, "!", 1) != 1) _exit(3);
}

/* One of the processes: "bf16 resnet exit" and the like. It ends when its threads have trained a little; "at once": in
 * their first step. */
static int end(const char *kind) {
  bool images = strstr(kind, "resnet") != NULL;
  const char *precision = strstr(kind, "bf16") != NULL ? "bf16" : "f32";
  biv_trainer *trainers[THREADS];
  pthread_t threads[THREADS];
  atexit(say_that_it_ends);
  for (int i = 0; i < THREADS; ++i) trainers[i] = trainer_of(images, precision);
  for (int i = 0; i < THREADS; ++i) CHECK(pthread_create(&threads[i], NULL, train, trainers[i]) == 0);
  if (strstr(kind, "at once") != NULL) usleep((useconds_t)(getpid() % 50 * 1000));
  for (int i = 0; i < THREADS && strstr(kind, "at once") == NULL; ++i) {
    biv_progress progress = SIZED(biv_progress);
    while (progress.steps < 3) {
      CHECK_OK(biv_trainer_get_progress(trainers[i], &progress));
      usleep(500);
    }
  }
  if (failed > 0) return 1;
  if (strstr(kind, "exit") != NULL) exit(STATUS);
  return STATUS;
}

static void test_ending_while_threads_train(const char *folder) {
  static const char *const kinds[] = {
      "f32 mlp exit",    "f32 mlp return",    "bf16 mlp exit",    "bf16 mlp return",    "bf16 mlp exit at once",
      "f32 resnet exit", "f32 resnet return", "bf16 resnet exit", "bf16 resnet return", "bf16 resnet exit at once"};
  int times = getenv("BIV_EXITS") != NULL ? atoi(getenv("BIV_EXITS")) : 1;
  for (int i = 0; i < times * (int)COUNT(kinds); ++i) {
    const char *kind = kinds[i % (int)COUNT(kinds)];
    int file = open(in(folder, "output"), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    pid_t child = fork();
    if (child == 0) {
      dup2(file, 1);
      dup2(file, 2);
      become((char *[]){"exit", (char *)kind, NULL});
      _exit(99);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    char text[1000] = "";
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    /* The handler's mark and nothing else. */
    if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == STATUS && strcmp(text, "!") == 0))
      printf("the process '%s' ended with status %x and printed: %.*s\n", kind, (unsigned)status, (int)length, text);
    close(file);
  }
}

int main(int argc, char **argv) {
  if (argc == 2) return end(argv[1]);
  char *folder = temporary_folder();
  test_ending_while_threads_train(folder);
  remove_folder(folder);
  return report("exit");
}
