// Checks that count. One that fails says where and what was found, and the program goes on.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <biv.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>

inline int passed = 0, failed = 0;

inline bool count_check(bool holds) {
  ++(holds ? passed : failed);
  return holds;
}

inline void check_that(bool holds, const char *what, const char *file, int line) {
  if (!count_check(holds)) std::printf("%s:%d: does not hold: %s\n", file, line, what);
}

#ifndef BIV_NO_EXCEPTIONS
/** The call must throw an Error with this status, and a message that says `said`. */
template <class Call>
void check_error(Call &&call, biv_status status, const std::string &said, const char *what, const char *file,
                 int line) {
  std::string found = "no error";
  try {
    call();
  } catch (const biv::Error &error) {
    if (count_check(error.status() == status && std::string(error.what()).find(said) != std::string::npos)) {
      if (std::getenv("BIV_TEST_MESSAGES")) std::printf("%s: %s\n", error.name(), error.what());
      return;
    }
    --failed;
    found = std::string(error.name()) + ": " + error.what();
  } catch (const std::exception &error) {
    found = std::string("another exception: ") + error.what();
  }
  count_check(false);
  std::printf("%s:%d: %.200s\n  expected %s: %s\n  found    %s\n", file, line, what, biv_status_name(status),
              said.c_str(), found.c_str());
}
#endif

#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_NEAR(found, expected) CHECK(std::abs((found) - (expected)) <= 1e-9 * (1 + std::abs(expected)))
#define CHECK_ERROR(call, status, said) check_error([&] { (void)(call); }, (status), (said), #call, __FILE__, __LINE__)

/** The last line of a test program; its result is the program's. */
inline int report() {
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}

#endif
