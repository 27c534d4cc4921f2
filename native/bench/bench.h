// Shared by the benchmarks of the core: a clock, medians, and random numbers that are the same in
// each run.
#pragma once

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <vector>

inline double now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// The sample in the middle; sorts the samples.
inline double median(std::vector<double>* samples) {
  std::sort(samples->begin(), samples->end());
  return (*samples)[samples->size() / 2];
}

// SplitMix64.
struct Sequence {
  uint64_t state;
  uint64_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(next() % limit); }
};

// Keeps a result that nobody reads from being optimized away.
template <typename Value>
void keep(const Value& value) {
  asm volatile("" : : "g"(value) : "memory");
}
