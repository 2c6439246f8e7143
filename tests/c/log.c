/* The log: each message once, to the callback that is set, by default to nobody. More threads than processors is what
 * the library warns of here, as often as there are numbers of threads. */
#include <pthread.h>

#include "common.h"

/* What a callback has heard. */
struct heard {
  int calls, infos;
  char last[200];
};

static void listen(void *user, int32_t level, const char *message) {
  struct heard *heard = user;
  heard->calls += 1;
  heard->infos += level == BIV_LOG_INFO;
  CHECK(level == BIV_LOG_WARNING || level == BIV_LOG_INFO);
  snprintf(heard->last, sizeof heard->last, "%s", message);
}

static int processors(void) { return (int)sysconf(_SC_NPROCESSORS_CONF); }

/* Makes the library warn of something that it has not warned of. */
static int warn(void) {
  static int more = 0;
  int threads = processors() + ++more;
  CHECK_OK(biv_set_num_threads(threads));
  return threads;
}

static bool is_about(const char *message, int threads) {
  char number[16];
  snprintf(number, sizeof number, "%d threads", threads);
  return strstr(message, number) != NULL;
}

/* The first to be called: nobody has listened yet. */
static void what_was_said_before_is_heard_by_the_first(void) {
  struct heard heard = {0};
  int threads = warn();
  CHECK_OK(biv_set_log(BIV_LOG_WARNING, listen, &heard));
  CHECK(heard.calls == 1 && heard.infos == 0 && is_about(heard.last, threads));
  CHECK_OK(biv_set_log(BIV_LOG_INFO, listen, &heard));
  CHECK(heard.infos > 0);
  int calls = heard.calls;
  CHECK_OK(biv_set_log(BIV_LOG_INFO, listen, &heard));
  CHECK(heard.calls == calls);
}

static void each_message_is_heard_once(void) {
  struct heard heard = {0};
  CHECK_OK(biv_set_log(BIV_LOG_WARNING, listen, &heard));
  CHECK(heard.calls == 0);
  int threads = warn();
  CHECK(heard.calls == 1 && is_about(heard.last, threads));
  CHECK_OK(biv_set_num_threads(threads));
  CHECK(heard.calls == 1);
}

static void another_callback_takes_over(void) {
  struct heard first = {0}, second = {0};
  CHECK_OK(biv_set_log(BIV_LOG_WARNING, listen, &first));
  warn();
  CHECK_OK(biv_set_log(BIV_LOG_WARNING, listen, &second));
  warn();
  CHECK(first.calls == 1 && second.calls == 1);
  /* A level that is none changes nothing. */
  CHECK_STATUS(biv_set_log(3, listen, &first), BIV_ERROR_INVALID_ARGUMENT, "level is 3, must be BIV_LOG_SILENT (0)");
  warn();
  CHECK(first.calls == 1 && second.calls == 2);
}

static void silence_keeps_what_is_said_for_later(void) {
  struct heard heard = {0};
  CHECK_OK(biv_set_log(BIV_LOG_SILENT, listen, &heard));
  warn();
  CHECK_OK(biv_set_log(BIV_LOG_WARNING, NULL, NULL));
  warn();
  CHECK(heard.calls == 0);
  CHECK_OK(biv_set_log(BIV_LOG_WARNING, listen, &heard));
  CHECK(heard.calls == 2);
}

static void call_the_library(void *user, int32_t level, const char *message) {
  listen(user, level, message);
  struct heard *heard = user;
  /* A warning that arises here is the next call's, not one within this one. */
  if (heard->calls == 1) {
    warn();
    CHECK(heard->calls == 1);
  }
  biv_dataset *data = NULL;
  biv_dataset_info info = SIZED(biv_dataset_info);
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 5}", &data));
  biv_dataset_free(data);
  CHECK_STATUS(biv_dataset_get_info(data, &info), BIV_ERROR_INVALID_HANDLE, "was freed");
  if (heard->calls == 2) CHECK_OK(biv_set_log(BIV_LOG_SILENT, NULL, NULL));
}

static void a_callback_may_call_the_library(void) {
  struct heard heard = {0};
  CHECK_OK(biv_set_log(BIV_LOG_WARNING, call_the_library, &heard));
  /* What the callback's own calls leave is not this call's status and message. */
  warn();
  CHECK(heard.calls == 2);
  warn();
  CHECK(heard.calls == 2);
}

/* A callback in which a thread is held for a while. */
struct slow {
  atomic_bool entered, left;
};

static void be_slow(void *user, int32_t level, const char *message) {
  (void)level, (void)message;
  struct slow *slow = user;
  atomic_store(&slow->entered, true);
  usleep(200 * 1000);
  atomic_store(&slow->left, true);
}

static void *warn_on_a_thread(void *unused) {
  warn();
  return unused;
}

/* So the host may free what it gave. */
static void a_callback_that_was_replaced_has_returned(void) {
  for (int silent = 0; silent < 2; silent++) {
    struct slow slow = {0};
    struct heard heard = {0};
    pthread_t thread;
    CHECK_OK(biv_set_log(BIV_LOG_WARNING, NULL, NULL));
    CHECK_OK(biv_set_log(BIV_LOG_WARNING, listen, &heard));
    CHECK_OK(biv_set_log(BIV_LOG_WARNING, be_slow, &slow));
    CHECK(pthread_create(&thread, NULL, warn_on_a_thread, NULL) == 0);
    while (!slow.entered) usleep(100);
    CHECK_OK(silent ? biv_set_log(BIV_LOG_SILENT, NULL, NULL) : biv_set_log(BIV_LOG_WARNING, listen, &heard));
    CHECK(slow.left);
    CHECK(pthread_join(thread, NULL) == 0);
  }
}

/* Each call starts as many threads as it says, for a moment. */
enum { THREADS = 4, EACH = 10 };

static void count_alone(void *user, int32_t level, const char *message) {
  (void)level, (void)message;
  /* Not atomic: the library never calls the callback twice at the same time. */
  *(int *)user += 1;
}

static void *set_distinct_numbers(void *first) {
  for (int i = 0; i < EACH; i++) CHECK_OK(biv_set_num_threads((int)(intptr_t)first + i));
  return NULL;
}

static void threads_are_heard_one_after_another(void) {
  pthread_t threads[THREADS];
  int count = 0;
  CHECK_OK(biv_set_log(BIV_LOG_WARNING, count_alone, &count));
  for (int i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, set_distinct_numbers, (void *)(intptr_t)(processors() + 30 + EACH * i)) ==
          0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK_OK(biv_set_log(BIV_LOG_SILENT, NULL, NULL));
  CHECK(count == THREADS * EACH);
}

int main(void) {
  /* A callback that waits for itself must not hang the tests. */
  alarm(900);
  int32_t threads = 0;
  CHECK_OK(biv_get_num_threads(&threads));
  what_was_said_before_is_heard_by_the_first();
  each_message_is_heard_once();
  another_callback_takes_over();
  silence_keeps_what_is_said_for_later();
  a_callback_may_call_the_library();
  a_callback_that_was_replaced_has_returned();
  threads_are_heard_one_after_another();
  CHECK_OK(biv_set_num_threads(threads));
  return report("log");
}
