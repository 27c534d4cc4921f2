// Copies of frames for captures, packed one after the other into blocks of memory. At most
// kMirrorBytes wait to be taken; frames beyond that are left out and counted, so that a capture
// never holds up the traffic that it watches. Blocks are handed over by moving them. Owned by one
// datapath; not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "bpf.h"
#include "frame.h"

namespace weft {

// What full frames at 1 Gb/s bring in a quarter of a second: so long the controlling thread may be without a
// processor and lose nothing (MIRROR_BYTES in src/datapath/datapath.ts).
inline constexpr size_t kMirrorBytes = 32 << 20;
// Room for several of the largest frames; no frame is split between blocks.
inline constexpr size_t kMirrorBlockBytes = 1 << 18;

enum class Direction : uint16_t { rx = 0, tx = 1 };

// In front of the bytes of each frame, which are padded to a multiple of 8 (src/addon/native-datapath.ts).
struct MirrorRecord {
  uint16_t port;
  Direction direction;
  uint32_t length;  // of the frame
  uint32_t copied;  // how many of its bytes follow
  uint32_t zero;
  double time_ms;
};
static_assert(sizeof(MirrorRecord) == 24);
static_assert(sizeof(MirrorRecord) + kMaxFrame + 8 <= kMirrorBlockBytes);

struct MirrorBlock {
  std::unique_ptr<uint8_t[]> bytes;
  size_t used;
};

// What was taken out of a mirror.
struct Mirrored {
  std::vector<MirrorBlock> blocks;
  uint64_t lost = 0;  // frames left out since it was last taken

  bool empty() const { return blocks.empty() && lost == 0; }
  void append(Mirrored other) {
    std::move(other.blocks.begin(), other.blocks.end(), std::back_inserter(blocks));
    lost += other.lost;
  }
};

class Mirror {
 public:
  // Copies up to `snap_bytes` of those frames of `port` that `filter` wants. Port 0 means all ports, an empty program
  // means all frames. `filter` must be valid or empty.
  void start(uint16_t port, uint32_t snap_bytes, std::vector<BpfInstruction> filter) {
    port_ = port;
    snap_bytes_ = std::min<uint32_t>(snap_bytes, kMaxFrame);
    filter_ = std::move(filter);
    on_ = true;
  }
  // What waits can still be taken.
  void stop() { on_ = false; }

  bool wants(uint16_t port) const { return on_ && (port_ == 0 || port_ == port); }
  bool empty() const { return waiting_.empty(); }

  void copy(uint16_t port, Direction direction, double now_ms, const Frame& frame) {
    if (!filter_.empty() && !bpf_wants(filter_, frame)) return;
    const uint32_t copied = std::min(frame.length, snap_bytes_);
    const size_t bytes = sizeof(MirrorRecord) + (copied + 7) / 8 * 8;
    if (waiting_bytes_ + bytes > kMirrorBytes) {
      ++waiting_.lost;
      return;
    }
    waiting_bytes_ += bytes;
    uint8_t* to = reserve(bytes);
    const MirrorRecord record = {port, direction, frame.length, copied, 0, now_ms};
    memset(to + bytes - 8, 0, 8);  // the padding; bytes of the frame overwrite the rest
    memcpy(to, &record, sizeof record);
    if (copied) frame.copy(to + sizeof record, copied);
  }

  Mirrored take() {
    waiting_bytes_ = 0;
    return std::exchange(waiting_, {});
  }

 private:
  uint8_t* reserve(size_t bytes) {
    std::vector<MirrorBlock>& blocks = waiting_.blocks;
    if (blocks.empty() || blocks.back().used + bytes > kMirrorBlockBytes) {
      blocks.push_back({std::unique_ptr<uint8_t[]>(new uint8_t[kMirrorBlockBytes]), 0});
    }
    MirrorBlock& last = blocks.back();
    last.used += bytes;
    return last.bytes.get() + last.used - bytes;
  }

  bool on_ = false;
  uint16_t port_ = 0;
  uint32_t snap_bytes_ = 0;
  std::vector<BpfInstruction> filter_;
  Mirrored waiting_;
  size_t waiting_bytes_ = 0;
};

}  // namespace weft
