// Meters: how much may pass of what a hook has limited together, however many connections that are. src/datapath/reference/meters.ts
// is the plain version and counts exactly the same.
//
// A meter is found by its name, which has its rates, too, and which each of its connections has in its record. So nobody adds or removes
// one, and one that was forgotten is made again by the next packet: after a crash, connections are limited as before. There is room
// for kSets · kWays of them. A meter gives way to another one once it is full again, since it says nothing then; while those that
// could give way are all in use, packets of further ones are refused.
//
// Each rate is a token bucket as in bucket.h: of a tenth of a second, and at least kLeastBytes or kLeastPackets. What exceeds one of
// them is dropped, and takes nothing of the other.
//
// Owned by the table of connections. All workers use it, one at a time: only what is limited pays for that.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>

#include "treatment.h"
#include "zeroed_array.h"

namespace weft {

class Meters {
 public:
  static constexpr uint32_t kSets = 512, kWays = 8;
  static constexpr uint64_t kLeastBytes = 65'536, kLeastPackets = 10;

  // `now_ms` is not negative. False if that is more than may pass; then nothing was taken.
  bool take(const MeterName& name, uint64_t bytes, uint64_t packets, double now_ms) {
    std::lock_guard guard(mutex_);
    const auto now = static_cast<int64_t>(now_ms * (kTicks / 1000));
    Meter* const meter = find(name, now);
    if (!meter) return false;
    const Limit by_bytes = {uint64_t{name.kbits} * 125, kLeastBytes}, by_packets = {name.packets, kLeastPackets};
    if (!by_bytes.admits(meter->bytes_full_at, now) || !by_packets.admits(meter->packets_full_at, now)) return false;
    by_bytes.take(&meter->bytes_full_at, bytes, now);
    by_packets.take(&meter->packets_full_at, packets, now);
    return true;
  }

 private:
  static constexpr uint64_t kTicks = 16'000'000'000;  // ticks in a second, as in bucket.h

  struct Limit {
    uint64_t per_second;  // 0: no limit
    uint64_t least;

    int64_t depth() const { return static_cast<int64_t>(std::max(kTicks / 10, least * kTicks / per_second)); }
    bool admits(int64_t full_at, int64_t now) const { return per_second == 0 || full_at - now < depth(); }
    void take(int64_t* full_at, uint64_t units, int64_t now) const {
      if (per_second) *full_at = std::max(*full_at, now) + static_cast<int64_t>(units * kTicks / per_second);
    }
  };
  struct Meter {
    MeterName name;
    // When each bucket is full again.
    int64_t bytes_full_at, packets_full_at;

    int64_t full_at() const { return std::max(bytes_full_at, packets_full_at); }
  };

  Meter* find(const MeterName& name, int64_t now) {
    Meter* const set = &meters_[name.id % kSets * kWays];
    Meter* idle = set;
    for (Meter* one = set; one < set + kWays; ++one) {
      if (one->name.id == name.id && one->name.kbits == name.kbits && one->name.packets == name.packets) return one;
      if (one->full_at() < idle->full_at()) idle = one;
    }
    if (idle->full_at() > now) return nullptr;
    *idle = {name, 0, 0};
    return idle;
  }

  std::mutex mutex_;
  ZeroedArray<Meter> meters_{kSets * kWays};
};

}  // namespace weft
