// Token buckets: how much may pass a port. src/datapath/reference/bucket.ts is the plain
// version, equal to the unit.
//
// A bucket is one number, the time at which it is full again (the theoretical
// arrival time of the generic cell rate algorithm, ITU-T I.371), so that workers
// that share a port share its rate by one compare-exchange, and nothing else.
//
// A frame passes while anything is left, and may take more than that: then the
// next ones wait until the rest is paid. So a frame that is larger than the
// bucket passes too, large and small ones have the same chances, and the long run
// is exact: in any time t at most burst + rate · t and one frame.
//
// Time is counted in sixteenths of a nanosecond: a frame of 60 bytes at 100 Gb/s
// takes 76 of them. It comes from the worker, which looks at the clock once a
// burst: some microseconds old, and the bucket is by default worth 20 ms or more of
// any rate (src/model/rate.ts).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

namespace weft {

// Bytes or frames; at most 2^29 of `burst`. None when `per_second` is 0.
struct Rate {
  uint64_t per_second = 0;
  uint64_t burst = 0;
  // Of ingress and egress: bytes that may wait until the rate admits them (rate_queue.h); 0: what is over the
  // rate is dropped at once.
  uint64_t queue = 0;
};

struct PortRates {
  Rate ingress;
  Rate egress;
  Rate storm;
  Rate upcalls;
};

// A cache line of its own: only those who take from it pay for it.
class alignas(64) Bucket {
 public:
  // Full.
  explicit Bucket(const Rate& rate)
      : queue_(rate.queue),
        per_second_(rate.per_second),
        depth_(static_cast<int64_t>(rate.burst * kTicks / rate.per_second)) {}

  // From any thread, `now_ms` not negative. False: there is nothing left, and nothing was taken.
  bool take(uint64_t units, double now_ms) {
    const auto now = static_cast<int64_t>(now_ms * (kTicks / 1000));
    const auto cost = static_cast<int64_t>(units * kTicks / per_second_);
    int64_t full = full_at_.load(std::memory_order_relaxed);
    do {
      if (full - now >= depth_) return false;
    } while (!full_at_.compare_exchange_weak(full, std::max(full, now) + cost, std::memory_order_relaxed));
    return true;
  }

  uint64_t queue() const { return queue_; }

  // From any thread: when to try again, after `take` was refused. Not sooner than in kPauseMs, or in half the time
  // that the bucket takes to fill, so that one try admits several frames and none of the rate is lost.
  double again_ms(double now_ms) const {
    const int64_t free = full_at_.load(std::memory_order_relaxed) - depth_ + 1;
    const double pause = std::min(kPauseMs, static_cast<double>(depth_) / (kTicks / 1000) / 2);
    return std::max(static_cast<double>(free) / (kTicks / 1000), now_ms + pause);
  }

 private:
  static constexpr double kPauseMs = 0.25;
  static constexpr uint64_t kTicks = 16'000'000'000;  // of a second

  const uint64_t queue_;
  const uint64_t per_second_;
  const int64_t depth_;
  std::atomic<int64_t> full_at_ = 0;
};

// Null without a rate.
inline std::shared_ptr<Bucket> bucket_of(const Rate& rate) {
  return rate.per_second ? std::make_shared<Bucket>(rate) : nullptr;
}

}  // namespace weft
