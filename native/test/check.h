// Shared by the tests of the core: CHECK, and random numbers whose seed is printed (WEFT_SEED sets
// it).
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <cstdint>
#include <random>

#define CHECK(condition)                                                                          \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      fprintf(stderr, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);   \
      exit(1);                                                                                    \
    }                                                                                             \
  } while (0)

class Random {
 public:
  explicit Random(const char* what) {
    const char* given = getenv("WEFT_SEED");
    const unsigned seed = given ? static_cast<unsigned>(strtoul(given, nullptr, 10)) : std::random_device()();
    printf("%s: WEFT_SEED=%u\n", what, seed);
    engine_.seed(seed);
  }
  // 0 … limit - 1
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(engine_() % limit); }
  bool chance(uint32_t percent) { return below(100) < percent; }

 private:
  std::mt19937 engine_;
};
