/* Checks for the C test programs. A check that fails prints where and what was found, and the program goes on. */
#ifndef CHECK_H
#define CHECK_H

#include <biv.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Threads may check at the same time. */
static atomic_int passed, failed, skipped;

static inline bool count_check(bool holds) {
  atomic_fetch_add(holds ? &passed : &failed, 1);
  return holds;
}

static inline bool check_that(bool holds, const char *what, const char *file, int line) {
  if (!holds) printf("%s:%d: does not hold: %s\n", file, line, what);
  return count_check(holds);
}

static inline bool check_near(double found, double expected, double tolerance, const char *what, const char *file,
                              int line) {
  bool holds = found == expected || fabs(found - expected) <= tolerance * fmax(fabs(expected), 1.0);
  if (!holds) printf("%s:%d: %s is %.17g, expected %.17g\n", file, line, what, found, expected);
  return count_check(holds);
}

/* A success must leave no message, an error one that says `text`. */
static inline bool check_status(biv_status found, biv_status expected, const char *text, const char *what,
                                const char *file, int line) {
  const char *message = biv_last_error_message();
  bool said = expected == BIV_OK ? message[0] == '\0' : message[0] != '\0' && strstr(message, text) != NULL;
  bool holds = found == expected && said;
  if (!holds) {
    printf("%s:%d: %.200s\n", file, line, what);
    printf("  expected %s: %s\n", biv_status_name(expected), text);
    printf("  found    %s: %.1000s\n", biv_status_name(found), message);
  }
  return count_check(holds);
}

#define CHECK(cond) check_that((cond), #cond, __FILE__, __LINE__)
#define CHECK_NEAR(found, expected, tolerance) check_near((found), (expected), (tolerance), #found, __FILE__, __LINE__)
#define CHECK_STATUS(call, status, text) check_status((call), (status), (text), #call, __FILE__, __LINE__)
#define CHECK_OK(call) check_status((call), BIV_OK, "", #call, __FILE__, __LINE__)

/* Counts a check that this machine does not allow. */
static inline void skip(const char *what, const char *why) {
  printf("skipped: %s: %s\n", what, why);
  atomic_fetch_add(&skipped, 1);
}

/* The last line of a test program; its result is the program's. */
static inline int report(const char *name) {
  printf("%s: %d passed, %d failed", name, passed, failed);
  if (skipped > 0) printf(", %d skipped", skipped);
  printf("\n");
  return failed > 0;
}

#endif
