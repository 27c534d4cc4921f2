// Frames that wait, in order, until the rate of their port admits them.
//
// A limit that only drops gives TCP just a part of its rate: between containers the round trip is so
// short that even the smallest window exceeds the rate, so whole windows are lost, and the sender
// waits for its retransmission timer. A queue makes the round trip as long as the rate needs it to be.
//
// A queue belongs to one direction of one port at one worker. Like a bucket (bucket.h), it accepts a
// frame while any room is left, so superframes and small frames have the same chances; it never holds
// more than Rate::queue and one frame. A small frame takes kLeastRoom, about what its record needs, so
// memory is bounded, too. src/datapath/reference/rate-queue.ts is the plain version.
//
// Owned by one datapath; not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>

#include "key.h"
#include "pending.h"

namespace weft {

struct QueuedFrame {
  ParkedFrame frame;
  Words key;       // ingress: for the lookup in the flow cache; egress: not used
  uint16_t from;   // the port that it came in by, 0 if weft made it
  uint32_t bytes;  // on a wire
};

class RateQueue {
 public:
  static constexpr uint32_t kLeastRoom = 256;

  bool empty() const { return frames_.empty(); }
  const QueuedFrame& front() const { return frames_.front(); }

  // False if nothing is left of `room` bytes. Otherwise a copy of `frame` waits.
  bool push(const Frame& frame, const Words& key, uint16_t from, uint32_t bytes, uint64_t room) {
    if (taken_ >= room) return false;
    taken_ += room_of(bytes);
    frames_.push_back({ParkedFrame(frame), key, from, bytes});
    return true;
  }
  QueuedFrame pop() {
    QueuedFrame first = std::move(frames_.front());
    frames_.pop_front();
    taken_ -= room_of(first.bytes);
    return first;
  }

 private:
  static uint64_t room_of(uint32_t bytes) { return std::max(bytes, kLeastRoom); }

  std::deque<QueuedFrame> frames_;
  uint64_t taken_ = 0;  // bytes
};

}  // namespace weft
