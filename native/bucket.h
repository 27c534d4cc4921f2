// Token buckets: how much may pass a port. src/datapath/reference/bucket.ts is the plain version and
// counts exactly the same.
//
// A bucket is one number, the time at which it will be full again (the theoretical arrival time of
// the generic cell rate algorithm, ITU-T I.371). So workers that share a port share its rate by one
// compare-exchange, and nothing else.
//
// A frame passes while anything is left, and may take more than that; then the next frames wait until
// the debt is paid. So a frame larger than the bucket also passes, large and small frames have the
// same chances, and the long run is exact: in any time t, at most burst + rate · t and one frame.
//
// Time is counted in sixteenths of a nanosecond: a frame of 60 bytes at 100 Gb/s takes 76 of them. It
// comes from the worker, which reads the clock once for each burst, so it is some microseconds old;
// by default, the bucket holds 20 ms or more of any rate (src/model/rate.ts).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

namespace weft {

// In bytes or frames; `burst` is at most 2^29. No limit if `per_second` is 0.
struct Rate {
  uint64_t per_second = 0;
  uint64_t burst = 0;
  // For ingress and egress: bytes that may wait until the rate admits them (rate_queue.h). 0: whatever
  // exceeds the rate is dropped at once.
  uint64_t queue = 0;
};

struct PortRates {
  Rate ingress;
  Rate egress;
  Rate storm;
  Rate upcalls;
  Rate answers;
  Rate sockets;
  Rate unanswered;
};

// Has a cache line of its own: only those who take from it pay for it.
class alignas(64) Bucket {
 public:
  // It starts full.
  explicit Bucket(const Rate& rate)
      : queue_(rate.queue),
        per_second_(rate.per_second),
        depth_(static_cast<int64_t>(rate.burst * kTicks / rate.per_second)) {}

  // From any thread; `now_ms` is not negative. False if nothing is left; then nothing was taken.
  bool take(uint64_t units, double now_ms) {
    const auto now = static_cast<int64_t>(now_ms * (kTicks / 1000));
    const auto cost = static_cast<int64_t>(units * kTicks / per_second_);
    int64_t full = full_at_.load(std::memory_order_relaxed);
    do {
      if (full - now >= depth_) return false;
    } while (!full_at_.compare_exchange_weak(full, std::max(full, now) + cost, std::memory_order_relaxed));
    return true;
  }

  // From any thread: units come back that were taken before; a full bucket stays as it is.
  void give(uint64_t units) {
    full_at_.fetch_sub(static_cast<int64_t>(units * kTicks / per_second_), std::memory_order_relaxed);
  }

  uint64_t queue() const { return queue_; }

  // From any thread: when to try again after `take` was refused. Not sooner than in kPauseMs, or in half the time
  // that the bucket takes to fill, so that one attempt admits several frames and no part of the rate is lost.
  double again_ms(double now_ms) const {
    const int64_t free = full_at_.load(std::memory_order_relaxed) - depth_ + 1;
    const double pause = std::min(kPauseMs, static_cast<double>(depth_) / (kTicks / 1000) / 2);
    return std::max(static_cast<double>(free) / (kTicks / 1000), now_ms + pause);
  }

 private:
  static constexpr double kPauseMs = 0.25;
  static constexpr uint64_t kTicks = 16'000'000'000;  // ticks in a second

  const uint64_t queue_;
  const uint64_t per_second_;
  const int64_t depth_;
  std::atomic<int64_t> full_at_ = 0;
};

// Null if there is no rate.
inline std::shared_ptr<Bucket> bucket_of(const Rate& rate) {
  return rate.per_second ? std::make_shared<Bucket>(rate) : nullptr;
}

}  // namespace weft
