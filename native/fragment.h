// Cuts an IPv4 packet into fragments (RFC 791 §3.2). Each has the header of the packet, those of
// its options that must be copied, and a piece of the payload; the length of each piece except the
// last is a multiple of 8. A fragment can be cut into fragments, too.
// src/datapath/reference/fragment.ts does the same.
#pragma once

#include <cstring>

#include "checksum.h"
#include "frame.h"
#include "key.h"

namespace weft {

inline constexpr uint32_t kDontFragment = 0x4000;
inline constexpr uint32_t kMoreFragments = 0x2000;

// Is it untagged IPv4 without DF? `key` was extracted from the frame.
inline bool may_fragment(const Frame& frame, const Key& key) {
  if (load16(key.eth_type) != 0x0800 || load16(key.vlan_tci) != 0) return false;
  return !(load16(frame.data + 14 + 6) & kDontFragment);
}

class Fragments {
 public:
  // For a whole frame in one piece, with nothing unfinished, for which may_fragment is true. No
  // fragment is larger than `mtu` (kLeastMtu or more), counted from the IP header on.
  Fragments(const uint8_t* frame, uint32_t length, uint32_t mtu) : frame_(frame), length_(length) {
    header_bytes_ = (frame[kL3] & 15) * 4u;
    payload_ = length - kL3 - header_bytes_;
    each_ = length - kL3 <= mtu ? payload_ : (mtu - header_bytes_) & ~7u;
    count_ = payload_ == 0 ? 1 : (payload_ + each_ - 1) / each_;
  }

  uint32_t count() const { return count_; }

  // Writes fragment `i`, which is never longer than the frame. Returns its length.
  uint32_t write(uint32_t i, uint8_t* to) const {
    if (count_ == 1) {
      memcpy(to, frame_, length_);
      return length_;
    }
    uint32_t header_bytes = kL3 + header_bytes_;
    memcpy(to, frame_, header_bytes);
    if (i > 0) header_bytes = copied_options(to);
    const uint32_t at = i * each_;
    const uint32_t bytes = i + 1 < count_ ? each_ : payload_ - at;
    memcpy(to + header_bytes, frame_ + kL3 + header_bytes_ + at, bytes);

    uint8_t* l3 = to + kL3;
    const uint32_t flags = load16(l3 + 6);
    store16(l3 + 2, header_bytes - kL3 + bytes);
    store16(l3 + 6, flags + at / 8 + (i + 1 < count_ && !(flags & kMoreFragments) ? kMoreFragments : 0));
    store16(l3 + 10, 0);
    OnesSum sum;
    sum.add(l3, header_bytes - kL3);
    store16(l3 + 10, sum.checksum());
    return header_bytes + bytes;
  }

 private:
  static constexpr uint32_t kL3 = 14;

  // Keeps in `to` only those options that every fragment has. Returns where the payload goes.
  uint32_t copied_options(uint8_t* to) const {
    constexpr uint8_t kEnd = 0, kNop = 1, kCopied = 0x80;
    const uint32_t end = kL3 + header_bytes_;
    uint32_t kept = kL3 + 20;
    for (uint32_t at = kept; at < end && frame_[at] != kEnd;) {
      const bool single = frame_[at] == kNop;
      const uint32_t bytes = single ? 1 : at + 1 < end ? frame_[at + 1] : 0;
      if (bytes == 0 || (!single && bytes < 2) || at + bytes > end) break;
      if (frame_[at] & kCopied) {
        memcpy(to + kept, frame_ + at, bytes);
        kept += bytes;
      }
      at += bytes;
    }
    while (kept % 4 != kL3 % 4) to[kept++] = kEnd;
    to[kL3] = static_cast<uint8_t>(0x40 | (kept - kL3) / 4);
    return kept;
  }

  const uint8_t* frame_;
  uint32_t length_;
  uint32_t header_bytes_;
  uint32_t payload_;
  uint32_t each_;
  uint32_t count_;
};

}  // namespace weft
