// Copies of frames for captures, packed one behind the other. At most
// kMirrorQueue frames wait to be taken; beyond that they are left out, so that a
// capture never holds up what it watches. Owned by one datapath; not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "frame.h"

namespace weft {

inline constexpr size_t kMirrorQueue = 1024;

enum class Direction : uint16_t { rx = 0, tx = 1 };

// Before each frame's bytes, which are padded to a multiple of 8 (src/datapath/binding.ts).
struct MirrorRecord {
  uint16_t port;
  Direction direction;
  uint32_t length;  // of the frame
  uint32_t copied;  // how much of it follows
  uint32_t zero;
  double time_ms;
};
static_assert(sizeof(MirrorRecord) == 24);

class Mirror {
 public:
  // Copies up to `snap_bytes` of the frames of `port`; 0 means all ports.
  void start(uint16_t port, uint32_t snap_bytes) {
    stop();
    port_ = port;
    snap_bytes_ = std::min<uint32_t>(snap_bytes, kMaxFrame);
    on_ = true;
  }
  void stop() {
    on_ = false;
    take();
  }

  bool wants(uint16_t port) const { return on_ && (port_ == 0 || port_ == port) && frames_ < kMirrorQueue; }
  bool empty() const { return frames_ == 0; }

  void copy(uint16_t port, Direction direction, double now_ms, const Frame& frame) {
    const uint32_t copied = std::min(frame.length, snap_bytes_);
    const MirrorRecord record = {port, direction, frame.length, copied, 0, now_ms};
    const size_t at = packed_.size();
    packed_.resize(at + sizeof record + (copied + 7) / 8 * 8);
    memcpy(packed_.data() + at, &record, sizeof record);
    if (copied) frame.copy(packed_.data() + at + sizeof record, copied);
    ++frames_;
  }

  // Everything that waits: records with their bytes.
  std::vector<uint8_t> take() {
    frames_ = 0;
    return std::exchange(packed_, {});
  }

 private:
  bool on_ = false;
  uint16_t port_ = 0;
  uint32_t snap_bytes_ = 0;
  size_t frames_ = 0;
  std::vector<uint8_t> packed_;
};

}  // namespace weft
