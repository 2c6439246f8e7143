/* The host stays as it was: nothing printed, no handlers, same environment, threads and rounding; it may end as it
 * likes and fork, have any floating-point modes and stacks, and its threads may use the library all at once. */
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "common.h"

extern char **environ;

enum { STEPS = 40, THREADS = 4 };

/* A piece of everything, errors included: files, images, threads of the library's own, and both precisions. */
static void use_everything(const char *folder) {
  biv_dataset *data = noisy_dataset(200, 1), *images = NULL;
  biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 16}"), *none = NULL;
  biv_trainer *brief = small_trainer(data, "{\"batch_size\": 16, \"precision\": \"bf16\"}");
  biv_metrics metrics = SIZED(biv_metrics);
  biv_text *text = NULL;
  CHECK_OK(biv_trainer_fit(trainer, 2, data, NULL, NULL));
  CHECK_OK(biv_trainer_fit(brief, 1, NULL, NULL, NULL));
  CHECK_OK(biv_trainer_evaluate(trainer, data, &metrics));
  CHECK_OK(biv_trainer_save(trainer, in(folder, "used.biv")));
  CHECK_OK(biv_trainer_load(in(folder, "used.biv"), data, NULL, &none));
  biv_trainer_free(none);
  CHECK_STATUS(biv_trainer_save(trainer, "/no/such/folder/file"), BIV_ERROR_NOT_FOUND, "/no/such");
  CHECK_STATUS(biv_trainer_load("/no/such/file", data, NULL, &none), BIV_ERROR_NOT_FOUND, "/no/such");
  CHECK_STATUS(biv_trainer_create(NULL, data, NULL, &none), BIV_ERROR_INVALID_HANDLE, "NULL");
  CHECK_OK(
      biv_sweep_run("{\"base\": {\"epochs\": 1, \"batch_size\": 32, \"model\": {\"kind\": \"mlp\", "
                    "\"hidden\": [4]}, \"dataset\": {\"kind\": \"synthetic\", \"train_size\": 64, "
                    "\"test_size\": 32}, \"loss\": {\"kind\": \"mse\"}}, \"grid\": {\"seeds\": [1, 2]}, \"jobs\": 2}",
                    NULL, NULL, &text));
  biv_text_free(text);
  CHECK_OK(biv_dataset_create_from_images(in(folder, "faces"), NULL, &images));
  int32_t devices = 0;
  CHECK_OK(biv_cuda_device_count(&devices));
  const char *info = NULL;
  CHECK_OK(biv_build_info(&info));
  biv_dataset_free(images);
  biv_trainer_free(trainer);
  biv_trainer_free(brief);
  biv_dataset_free(data);
}

/* The state of the process and of this thread that a library might change, a line each, to be freed. */
static char *describe_the_host(void) {
  char *text = NULL, path[PATH_MAX], name[16] = "";
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  for (char **entry = environ; *entry != NULL; ++entry) fprintf(out, "environment: %s\n", *entry);
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action = {.sa_flags = 0};
    if (sigaction(number, NULL, &action) != 0) continue;
    fprintf(out, "signal %d: handler %p, flags %x, mask", number, *(void **)&action.sa_handler,
            (unsigned)action.sa_flags);
    for (int other = 1; other < NSIG; ++other) fprintf(out, "%d", sigismember(&action.sa_mask, other) == 1);
    fprintf(out, "\n");
  }
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, NULL, &blocked);
  fprintf(out, "blocked signals: ");
  for (int number = 1; number < NSIG; ++number) fprintf(out, "%d", sigismember(&blocked, number) == 1);
  stack_t stack;
  sigaltstack(NULL, &stack);
  fprintf(out, "\nsignal stack: %p, flags %x\n", stack.ss_sp, (unsigned)stack.ss_flags);
  fprintf(out, "folder: %s\n", getcwd(path, sizeof path));
  mode_t mask = umask(0);
  umask(mask);
  fprintf(out, "umask: %o\nlocale: %s\n", (unsigned)mask, setlocale(LC_ALL, NULL));
  for (int resource = 0; resource < RLIMIT_NLIMITS; ++resource) {
    struct rlimit limit;
    if (getrlimit((unsigned)resource, &limit) == 0)
      fprintf(out, "limit %d: %ju of %ju\n", resource, (uintmax_t)limit.rlim_cur, (uintmax_t)limit.rlim_max);
  }
  cpu_set_t processors;
  sched_getaffinity(0, sizeof processors, &processors);
  fprintf(out, "processors: %d, nice: %d\n", CPU_COUNT(&processors), getpriority(PRIO_PROCESS, 0));
  struct itimerval timer;
  getitimer(ITIMER_REAL, &timer);
  pthread_getname_np(pthread_self(), name, sizeof name);
  fprintf(out, "timer is running: %d\nthread: %s\n", timerisset(&timer.it_value), name);
  for (int number = 0; number < 100; ++number) {
    struct stat file;
    if (fstat(number, &file) == 0) fprintf(out, "descriptor %d: inode %ju\n", number, (uintmax_t)file.st_ino);
  }
  fprintf(out, "rounding: %d\n", fegetround());
#ifdef __SSE__
  unsigned short x87;
  __asm__("fnstcw %0" : "=m"(x87));
  /* But for the flags that say what has happened. */
  fprintf(out, "control words: %x, %x\n", __builtin_ia32_stmxcsr() & ~0x3fu, x87);
#elif defined(__aarch64__)
  fprintf(out, "control word: %x\n", __builtin_aarch64_get_fpcr());
#endif
  int32_t threads = 0;
  CHECK_OK(biv_get_num_threads(&threads));
  fprintf(out, "libtorch's threads: %d\n", threads);
  fclose(out);
  return text;
}

/* Compares line by line, so that a difference is told by its name. */
static void check_same_host(char *before, char *after) {
  char *rest_before = NULL, *rest_after = NULL;
  char *line = strtok_r(before, "\n", &rest_before), *now = strtok_r(after, "\n", &rest_after);
  while (line != NULL || now != NULL) {
    bool same = line != NULL && now != NULL && strcmp(line, now) == 0;
    if (!count_check(same)) printf("the host was:\n  %s\nand is:\n  %s\n", line, now);
    if (!same) break;
    line = strtok_r(NULL, "\n", &rest_before);
    now = strtok_r(NULL, "\n", &rest_after);
  }
}

/* Denormal numbers are 0 then. */
static void flush(void) {
#ifdef __SSE__
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
  __builtin_aarch64_set_fpcr(__builtin_aarch64_get_fpcr() | 1 << 24);
#endif
}

/* Not what every process has: a library that "resets" something is found too. */
static void have_ways_of_ones_own(void) {
  setenv("BIV_TEST_HOST", "a value", 1);
  umask(027);
  signal(SIGUSR1, SIG_IGN);
  pthread_setname_np(pthread_self(), "the host");
  fesetround(FE_UPWARD);
  flush();
}

static void test_the_host_is_left_alone(const char *folder) {
  char *before = describe_the_host();
  use_everything(folder);
  char *after = describe_the_host();
  check_same_host(before, after);
  free(before);
  free(after);
}

/* What a child has printed, and how it ended. */
typedef struct {
  int status;
  off_t printed;
} ending;

/* Runs this program again as another `host`; it must be over in five minutes. */
static ending run_host(const char *host, const char *folder) {
  int file = open(in(folder, "output"), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
  pid_t child = fork();
  if (child == 0) {
    dup2(file, 1);
    dup2(file, 2);
    become((char *[]){"host", (char *)host, (char *)folder, NULL});
    _exit(99);
  }
  ending ended = {.status = -1};
  CHECK(waitpid(child, &ended.status, 0) == child);
  ended.printed = lseek(file, 0, SEEK_END);
  if (ended.status != 0 || ended.printed != 0) {
    char text[1000] = "";
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    printf("the host that %s ended with status %x and printed: %.*s\n", host, (unsigned)ended.status, (int)length,
           text);
  }
  close(file);
  return ended;
}

static void *train(void *losses);

static biv_trainer *left_over;

static void free_at_exit(void) {
  biv_trainer_free(left_over);
  if (biv_last_error_message() == NULL) _exit(3);
}

/* Hosts of their own: each uses the library and leaves in its way, without a word. */
static int another_host(const char *host, const char *folder) {
  if (strcmp(host, "has its ways") == 0) have_ways_of_ones_own();
  if (strcmp(host, "has its ways") == 0 || strcmp(host, "has none") == 0) test_the_host_is_left_alone(folder);
  if (strcmp(host, "forks first") == 0) {
    /* Before the first call: each process has a library of its own. */
    pid_t child = fork();
    double losses[STEPS];
    train(losses);
    int status = 0;
    CHECK(child == 0 || (waitpid(child, &status, 0) == child && status == 0));
  }
  if (strcmp(host, "frees at exit") == 0) {
    atexit(free_at_exit);
    left_over = small_trainer(noisy_dataset(40, 1), "{\"batch_size\": 10}");
    CHECK_OK(biv_trainer_fit(left_over, 1, NULL, NULL, NULL));
  }
  return failed > 0;
}

static void test_hosts_end_in_peace(const char *folder) {
  static const char *const hosts[] = {"has none", "has its ways", "frees at exit", "forks first"};
  for (size_t i = 0; i < COUNT(hosts); ++i) {
    ending ended = run_host(hosts[i], folder);
    CHECK(WIFEXITED(ended.status) && WEXITSTATUS(ended.status) == 0);
    CHECK(ended.printed == 0);
  }
}

/* A host may start other programs between its steps; only the children may not use the library. */
static void test_the_parent_goes_on_after_fork(void) {
  biv_dataset *data = noisy_dataset(200, 1);
  double quiet[STEPS], forking[STEPS];
  for (int forks = 0; forks < 2; ++forks) {
    biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 16, \"seed\": 5}");
    for (int i = 0; i < STEPS; ++i) {
      biv_step step = SIZED(biv_step);
      if (forks && i % 4 == 0) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
          if (i % 8 == 0) execlp("true", "true", (char *)NULL);
          _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
      }
      CHECK_OK(biv_trainer_step(trainer, &step));
      (forks ? forking : quiet)[i] = step.loss;
    }
    biv_trainer_free(trainer);
  }
  CHECK(memcmp(quiet, forking, sizeof quiet) == 0);
  biv_dataset_free(data);
}

/* What a child of fork gets from every kind of call, at once; its number is that of the check that failed. */
static int refused_in_child(biv_trainer *trainer, biv_dataset *data) {
  biv_trainer *another = trainer;
  biv_model *model = NULL;
  biv_step step = SIZED(biv_step);
  int32_t threads = -1;
  alarm(60);
  biv_status statuses[] = {
      biv_trainer_step(trainer, &step),
      biv_trainer_fit(trainer, 1, NULL, NULL, NULL),
      biv_trainer_cancel(trainer),
      biv_trainer_create(NULL, data, NULL, &another),
      biv_model_create("{}", &model),
      biv_get_num_threads(&threads),
      biv_set_num_threads(1),
      biv_set_log(BIV_LOG_SILENT, NULL, NULL),
      biv_fit(NULL, data, NULL, NULL, NULL, &model, NULL),
      biv_sweep_run("{}", NULL, NULL, NULL),
  };
  for (int i = 0; i < (int)COUNT(statuses); ++i)
    if (statuses[i] != BIV_ERROR_UNSUPPORTED) return 1 + i;
  if (strstr(biv_last_error_message(), "fork") == NULL || strcmp(biv_version(), BIV_VERSION) != 0) return 50;
  if (another != trainer || model != NULL || threads != -1 || step.loss != 0) return 51;
  biv_trainer_free(trainer);
  biv_dataset_free(data);
  biv_model_free(NULL);
  return biv_last_error_message()[0] != '\0' ? 0 : 52;
}

/* Whether processes are asked for leaks when they end: children of fork have none of the threads that refer to memory.
 */
static int checks_leaks(void) {
#ifdef __SANITIZE_ADDRESS__
  return 1;
#else
  return scaled(0, 1); /* valgrind */
#endif
}

enum way_out { AT_ONCE, THROUGH_EXIT_FUNCTIONS };

/* In the child that `fork` has made, if it is one: refused_in_child(), then its end. */
static void check_child(pid_t child, enum way_out way_out, biv_trainer *trainer, biv_dataset *data) {
  if (child == 0) {
    int wrong = refused_in_child(trainer, data);
    if (checks_leaks()) {
      char number[] = {(char)('0' + wrong / 10), (char)('0' + wrong % 10), '\0'};
      execl("/bin/sh", "sh", "-c", "exit $0", number, (char *)NULL);
    }
    if (way_out == THROUGH_EXIT_FUNCTIONS) exit(wrong);
    _exit(wrong);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  if (!CHECK(status == 0)) printf("the child ended with status %x\n", (unsigned)status);
}

static int32_t fork_in_a_callback(void *trainer, const biv_epoch *epoch) {
  (void)epoch;
  check_child(fork(), AT_ONCE, trainer, NULL);
  return 0;
}

static void test_a_child_of_fork_is_refused(void) {
  biv_dataset *data = noisy_dataset(200, 1);
  biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 16}");
  biv_trainer *busy = small_trainer(data, "{\"batch_size\": 16, \"precision\": \"bf16\"}");
  /* The system's own call, which tells no library. While threads allocate, no child of it could do so itself. */
  CHECK_OK(biv_trainer_step(trainer, NULL));
  check_child((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), AT_ONCE, trainer, data);
  check_child((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), THROUGH_EXIT_FUNCTIONS, trainer, data);
  /* A thread of the parent trains meanwhile, so that some lock is held. */
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, fit_until_cancelled, busy) == 0);
  for (int i = 0; i < 20; ++i) {
    check_child(fork(), i % 2 ? AT_ONCE : THROUGH_EXIT_FUNCTIONS, i % 4 == 1 ? busy : trainer, data);
    CHECK_OK(biv_trainer_step(trainer, NULL));
  }
  CHECK_OK(biv_trainer_fit(trainer, 2, NULL, fork_in_a_callback, trainer));
  CHECK_OK(biv_trainer_cancel(busy));
  CHECK(pthread_join(thread, NULL) == 0);
  biv_trainer_free(busy);
  biv_trainer_free(trainer);
  biv_dataset_free(data);
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

static void trap(void) { feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW | FE_UNDERFLOW | FE_INEXACT); }

static void round_up(void) { fesetround(FE_UPWARD); }

typedef struct {
  int rounding, traps;
} modes;

static modes present_modes(void) { return (modes){fegetround(), fegetexcept()}; }

static int32_t compare_modes(void *user, const biv_epoch *epoch) {
  const modes *hosts = user, now = present_modes();
  CHECK(now.rounding == hosts->rounding && now.traps == hosts->traps);
  return epoch->epoch < 0;
}

/* Two fits, of the library's own kernel and of libtorch's operations, and an error; what the model predicts then. */
static void *use_floats(void *predictions) {
  enum { ROWS = 40 };
  modes hosts = present_modes();
  biv_dataset *data = noisy_dataset(200, 1), *few = noisy_dataset(ROWS, 2), *wrong = NULL;
  static const char *const options[] = {"{\"batch_size\": 16, \"seed\": 5}",
                                        "{\"batch_size\": 50, \"seed\": 5, \"precision\": \"bf16\"}"};
  float features[ROWS * 5];
  CHECK_OK(biv_dataset_copy_features(few, F32_OUT(features, ROWS, 5)));
  for (int i = 0; i < 2; ++i) {
    biv_trainer *trainer = small_trainer(data, options[i]);
    CHECK_OK(biv_trainer_fit(trainer, 2, NULL, compare_modes, &hosts));
    CHECK_OK(biv_trainer_predict(trainer, F32(features, ROWS, 5), F64_OUT((double *)predictions + i * ROWS, ROWS)));
    biv_trainer_free(trainer);
  }
  static const char *const plainly = "{\"batch_size\": 8, \"normalize\": false, \"loss\": {\"kind\": \"mse\"}}";
  double labels[ROWS] = {1e200};
  biv_model *model = small_model();
  biv_trainer *trainer = NULL;
  CHECK_OK(biv_dataset_create_from_arrays(F32(features, ROWS, 5), F64(labels, ROWS), NULL, &wrong));
  CHECK_STATUS(biv_trainer_create(model, wrong, plainly, &trainer), BIV_ERROR_NUMERICAL, "row 0, label 0: 1e200");
  biv_dataset_free(wrong);
  /* Its square is too large. */
  labels[0] = 1e38;
  CHECK_OK(biv_dataset_create_from_arrays(F32(features, ROWS, 5), F64(labels, ROWS), NULL, &wrong));
  CHECK_OK(biv_trainer_create(model, wrong, plainly, &trainer));
  CHECK_STATUS(biv_trainer_fit(trainer, 1, NULL, NULL, NULL), BIV_ERROR_NUMERICAL, "row 0, label 0");
  biv_model_free(model);
  modes now = present_modes();
  CHECK(now.rounding == hosts.rounding && now.traps == hosts.traps);
  biv_trainer_free(trainer);
  biv_dataset_free(wrong);
  biv_dataset_free(few);
  biv_dataset_free(data);
  return NULL;
}

static void test_floating_point_modes_change_nothing(void) {
  static void (*const ways[])(void) = {trap, round_up, flush};
  double plain[80], other[80];
  use_floats(plain);
  for (size_t i = 0; i < COUNT(ways); ++i) {
    fenv_t before;
    memset(other, 0, sizeof other);
    feholdexcept(&before);
    ways[i]();
    use_floats(other);
    fesetenv(&before);
    CHECK(memcmp(plain, other, sizeof plain) == 0);
  }
}

/* How much of the thread's own stack is left, in bytes; -1 on another one. */
static ptrdiff_t room(void) {
  pthread_attr_t attributes;
  void *low = NULL;
  size_t size = 0;
  char here = 0;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &low, &size);
  pthread_attr_destroy(&attributes);
  ptrdiff_t left = &here - (char *)low;
  return left < (ptrdiff_t)size ? left : -1;
}

static bool is_on_threads_stack(void) { return room() > 0; }

static biv_dataset *many_rows, *few_rows;

static int32_t evaluate_in_callback(void *trainer, const biv_epoch *epoch) {
  biv_metrics metrics = SIZED(biv_metrics);
  CHECK(is_on_threads_stack());
  CHECK_OK(biv_trainer_evaluate(trainer, few_rows, &metrics));
  return epoch->epoch < 0;
}

static int32_t evaluate_nothing(void *user, const biv_epoch *epoch) {
  CHECK(user == NULL && is_on_threads_stack());
  return epoch->epoch < 0;
}

static int32_t follow(void *user, const biv_experiment_progress *progress) {
  (void)user;
  CHECK(is_on_threads_stack());
  return progress->done < 0;
}

static void hear(void *user, int32_t level, const char *message) {
  (void)user;
  (void)level;
  (void)message;
  CHECK(is_on_threads_stack());
  CHECK_OK(biv_set_log(BIV_LOG_SILENT, NULL, NULL));
}

/* What needs the most stack: training of both kinds of networks, a fit, a sweep, errors, deep JSON, libtorch's errors.
 */
static void *use_little_stack(void *losses) {
  if (room() < 10 << 10) return "too little to call anything";
  biv_step step = SIZED(biv_step);
  biv_trainer *trainer = small_trainer(many_rows, "{\"batch_size\": 16, \"seed\": 5}"), *none = NULL;
  CHECK_OK(biv_set_log(BIV_LOG_INFO, hear, NULL));
  CHECK_OK(biv_trainer_fit(trainer, 2, few_rows, evaluate_in_callback, trainer));
  for (int i = 0; i < STEPS; ++i) {
    CHECK_OK(biv_trainer_step(trainer, &step));
    ((double *)losses)[i] = step.loss;
  }
  static float pixels[4 * 3 * 64 * 64];
  biv_dataset *images = NULL;
  biv_model *cnn = NULL, *fitted = NULL;
  biv_text *text = NULL;
  CHECK_OK(biv_dataset_create_from_arrays(F32(pixels, 4, 3, 64, 64), F64(((double[4]){1, 2, 3, 4}), 4), NULL, &images));
  CHECK_OK(biv_model_create("{\"kind\": \"vanilla_cnn\", \"height\": 64, \"width\": 64}", &cnn));
  CHECK_OK(biv_trainer_create(cnn, images,
                              "{\"batch_size\": 4, \"precision\": \"bf16\", \"loss\": {\"kind\": \"mse\"}}", &none));
  CHECK_OK(biv_trainer_fit(none, 1, images, evaluate_nothing, NULL));
  CHECK_OK(biv_fit(NULL, many_rows, "{\"epochs\": 2, \"members\": 2}", NULL, NULL, &fitted, &text));
  biv_text_free(text);
  CHECK_OK(biv_sweep_run(
      "{\"base\": {\"epochs\": 1, \"batch_size\": 32, \"model\": {\"kind\": \"mlp\", \"hidden\": [4]}, "
      "\"dataset\": {\"kind\": \"synthetic\", \"train_size\": 64, \"test_size\": 32}, \"loss\": {\"kind\": "
      "\"mse\"}}, \"grid\": {\"seeds\": [1, 2]}, \"jobs\": 1}",
      follow, NULL, &text));
  biv_text_free(text);
  static char deep[100000];
  memset(deep, '[', sizeof deep - 1);
  biv_model *refused = NULL;
  CHECK_STATUS(biv_model_create(deep, &refused), BIV_ERROR_INVALID_CONFIG, "recursion");
  const char *schema = NULL;
  CHECK_OK(biv_config_schema("sweep", &schema));
  biv_model_free(fitted);
  biv_trainer_free(none);
  biv_model_free(cnn);
  biv_dataset_free(images);
  biv_trainer_free(trainer);
  return NULL;
}

static void test_small_stacks(void) {
  double plain[STEPS];
  many_rows = noisy_dataset(200, 1);
  few_rows = noisy_dataset(20, 3);
  use_little_stack(plain);
  for (size_t size = (size_t)PTHREAD_STACK_MIN; size <= 512 << 10; size += size < 96 << 10 ? 16 << 10 : size) {
    double losses[STEPS] = {0};
    pthread_attr_t attributes;
    pthread_t thread;
    void *skipped_for = NULL;
    pthread_attr_init(&attributes);
    CHECK(pthread_attr_setstacksize(&attributes, size) == 0);
    int status = pthread_create(&thread, &attributes, use_little_stack, losses);
    pthread_attr_destroy(&attributes);
    /* Thread-local variables take their part: of the smallest stacks nothing is left. */
    if (status == EINVAL && size < 64 << 10) continue;
    CHECK(status == 0 && pthread_join(thread, &skipped_for) == 0);
    CHECK(skipped_for != NULL ? size < 64 << 10 : memcmp(plain, losses, sizeof plain) == 0);
  }
  biv_dataset_free(few_rows);
  biv_dataset_free(many_rows);
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

int main(int argc, char **argv) {
  if (argc == 3) return another_host(argv[1], argv[2]);
  char *folder = temporary_folder(), faces[PATH_MAX];
  snprintf(faces, sizeof faces, "%s/faces", folder);
  draw_faces(faces, 4, 16);
  /* Under qemu (tests/aarch64.sh) no other program for the same processor starts, and a child of a process with threads
   * hangs. */
  bool emulated = getenv("BIV_TEST_EMULATED") != NULL;
  if (emulated) skip("hosts that end, children of fork", "an emulator runs this");
  if (!emulated) test_hosts_end_in_peace(folder);
  test_the_parent_goes_on_after_fork();
  if (!emulated) test_a_child_of_fork_is_refused();
  test_calls_at_the_end_of_a_thread();
  test_floating_point_modes_change_nothing();
  test_small_stacks();
  test_trainers_on_many_threads();
  test_one_trainer_on_many_threads();
  files_in(faces, true);
  rmdir(faces);
  remove_folder(folder);
  return report("host");
}
