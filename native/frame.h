// A frame in memory, and the burst that a receive fills.
//
// Ownership: a Burst owns its storage and belongs to one thread. A Frame points
// into a Burst (or into a parked copy) and is valid until the next receive into
// that Burst. `kHeadroom` bytes before `data` are writable, for encapsulation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace weft {

// virtio_net_hdr without `num_buffers` (virtio 1.2 §5.1.6): what a TAP with
// IFF_VNET_HDR reads and writes, little-endian on the machines that weft runs
// on. Declared here because linux/virtio_net.h is not valid C++.
struct VnetHdr {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
};
static_assert(sizeof(VnetHdr) == 10);

inline constexpr size_t kHeadroom = 128;
inline constexpr size_t kMaxFrame = 65535;
inline constexpr size_t kBurst = 32;

struct Frame {
  uint8_t* data;    // Ethernet header
  uint32_t length;  // bytes from `data`
  VnetHdr vnet;
};

class Burst {
 public:
  Burst() : storage_(new uint8_t[kBurst * kStride]) {}
  // Where the frame of slot `index` begins (kHeadroom bytes precede it).
  uint8_t* slot(size_t index) { return storage_.get() + index * kStride + kHeadroom; }

  Frame frames[kBurst];
  size_t count = 0;

 private:
  static constexpr size_t kStride = kHeadroom + kMaxFrame + 1 + 64;
  std::unique_ptr<uint8_t[]> storage_;
};

}  // namespace weft
