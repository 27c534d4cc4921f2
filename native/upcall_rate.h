// How many upcalls a port may cause, so that a sender of nothing but new flows costs the slow path a
// bounded part of its time, and costs the other senders behind the same port nothing.
// src/datapath/reference/upcall-rate.ts is the plain version and counts exactly the same.
//
// A sender is identified by its MAC address and the VTEP in front of it. A sender that was admitted
// before has half of the port's rate to itself. All others share a quarter of it, so made-up
// addresses, a new one each time, crowd out only other newcomers. Frames that are too big for the path
// of a cached flow have a sixteenth: ICMP errors, which answer them, are limited, too.
//
// Known senders are kept by a hash that anybody can compute. But whoever makes up an address that
// collides never gets the place of a sender that was admitted within kKnownMs.
//
// All workers share the buckets of the port (bucket.h), and each worker has senders of its own: the
// share of a sender that sends by several queues is divided among them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "bucket.h"
#include "key.h"
#include "zeroed_array.h"

namespace weft {

inline constexpr size_t kSenders = 4096;
// How long a sender is remembered after it was last admitted.
inline constexpr double kKnownMs = 300'000;

// The part 1/`share` of a rate.
inline Rate part_of(const Rate& rate, uint64_t share) {
  return {std::max<uint64_t>(rate.per_second / share, 1), std::max<uint64_t>(rate.burst / share, 1)};
}

// What all workers share of the rate of one port.
struct UpcallBuckets {
  explicit UpcallBuckets(const Rate& rate)
      : all(rate), newcomers(part_of(rate, 4)), too_big(part_of(rate, 16)) {}
  Bucket all, newcomers, too_big;
};

// Owned by one datapath; not thread-safe.
class UpcallRate {
 public:
  // `workers` workers share the port.
  UpcallRate(const Rate& rate, size_t workers, std::shared_ptr<UpcallBuckets> buckets)
      : buckets_(std::move(buckets)), senders_(kSenders) {
    const Rate own = part_of(rate, 2 * workers);
    each_ms_ = 1000.0 / static_cast<double>(own.per_second);
    depth_ms_ = static_cast<double>(own.burst) * each_ms_;
  }

  // May a frame that no cached flow covers cause an upcall?
  bool miss(const Key& key, double now_ms) {
    const uint32_t hash = sender_hash(key);
    Sender& sender = senders_[hash % kSenders];
    if (sender.hash == hash) {
      if (sender.full_at_ms - now_ms >= depth_ms_) return false;
      sender.full_at_ms = std::max(sender.full_at_ms, now_ms) + each_ms_;
    } else {
      if (!buckets_->newcomers.take(1, now_ms)) return false;
      if (sender.hash == 0 || now_ms - sender.full_at_ms >= kKnownMs) sender = {hash, now_ms + each_ms_};
    }
    return buckets_->all.take(1, now_ms);
  }

  // May one that is too big for its cached flow cause an upcall?
  bool too_big(double now_ms) { return buckets_->too_big.take(1, now_ms); }

 private:
  struct Sender {
    uint32_t hash;  // 0 if the place is free
    double full_at_ms;
  };

  std::shared_ptr<UpcallBuckets> buckets_;
  ZeroedArray<Sender> senders_;
  double each_ms_;
  double depth_ms_;
};

}  // namespace weft
