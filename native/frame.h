// A frame in memory, and the burst that a receive fills.
//
// Ownership: a Burst owns its storage and belongs to one thread. A Frame points into a Burst (or
// into a parked copy) and is valid until the next receive into that Burst.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace weft {

// virtio_net_hdr without `num_buffers` (virtio 1.2 §5.1.6), as a TAP with IFF_VNET_HDR reads and
// writes it; little-endian on the machines that weft runs on. Declared here because
// linux/virtio_net.h is not valid C++.
struct VnetHdr {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;

  bool operator==(const VnetHdr&) const = default;
};
static_assert(sizeof(VnetHdr) == 10);

// An IP packet of any size behind an Ethernet header with a VLAN tag.
inline constexpr size_t kMaxFrame = 18 + 65535;

// Payloads that follow the first part of a frame: a superframe that was merged from several frames,
// whose payloads stay where they are.
inline constexpr size_t kMaxSuperframe = 64;
struct Pieces {
  uint32_t count = 0;
  iovec at[kMaxSuperframe - 1];
};

struct Frame {
  uint8_t* data;    // Ethernet header
  uint32_t length;  // of the whole frame
  VnetHdr vnet;
  const Pieces* pieces = nullptr;  // null if the whole frame is at `data`
  uint32_t linear = 0;             // otherwise this much of it, including all headers

  // Copies at most the first `size` bytes; returns how many.
  size_t copy(uint8_t* to, size_t size) const {
    size = std::min<size_t>(size, length);
    size_t done = std::min<size_t>(size, pieces ? linear : length);
    memcpy(to, data, done);
    for (size_t i = 0; done < size; ++i) {
      const size_t part = std::min(size - done, pieces->at[i].iov_len);
      memcpy(to + done, pieces->at[i].iov_base, part);
      done += part;
    }
    return size;
  }

  // Copies `size` bytes from `at` on; false if not all of them are in the frame.
  bool peek(uint64_t at, size_t size, uint8_t* to) const {
    if (at + size > length) return false;
    const size_t whole = pieces ? linear : length;
    if (at + size <= whole) {
      memcpy(to, data + at, size);
      return true;
    }
    for (size_t done = 0; done < size; ++done, ++at) to[done] = byte(at);
    return true;
  }

 private:
  uint8_t byte(uint64_t at) const {
    if (at < linear) return data[at];
    at -= linear;
    size_t i = 0;
    for (; at >= pieces->at[i].iov_len; ++i) at -= pieces->at[i].iov_len;
    return static_cast<const uint8_t*>(pieces->at[i].iov_base)[at];
  }
};

// Who sent a datagram, and how it was marked on the way.
struct UnderlaySource {
  uint8_t address[16];  // IPv4-mapped or IPv6, network order
  uint8_t tos = 0;      // DSCP and ECN of the outer header
};
static_assert(sizeof(UnderlaySource) == 17);  // src/datapath/native/native.ts packs it like this

class Burst {
 public:
  // A receive fills at most so many buffers, of kMaxFrame + 1 bytes each.
  static constexpr size_t kSlots = 64;

  Burst() : storage_(new uint8_t[kSlots * kStride]) { frames.reserve(kSlots); }
  uint8_t* slot(size_t index) { return storage_.get() + index * kStride; }

  std::vector<Frame> frames;            // a slot may hold several
  std::vector<UnderlaySource> sources;  // of each frame, from the underlay

  void clear() {
    frames.clear();
    sources.clear();
  }

 private:
  // Datagrams of an underlay of MTU 1500 in neighboring slots then use different cache sets.
  static constexpr size_t kStride = (kMaxFrame + 1 + 63) / 64 * 64 + 1600;
  std::unique_ptr<uint8_t[]> storage_;
};

}  // namespace weft
