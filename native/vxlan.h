// The VXLAN header (RFC 7348 §5): flags, 24 reserved bits, VNI, 8 reserved bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "frame.h"

namespace weft {

inline constexpr uint32_t kVxlanBytes = 8;
inline constexpr uint8_t kVxlanFlagI = 0x08;  // the VNI is valid
inline constexpr uint32_t kEthernetBytes = 14;

// Moves `frame` from the UDP payload to the inner frame. False if it is too short for both headers
// or has no I flag; then `frame` is unchanged. Reserved bits are ignored.
inline bool vxlan_decap(Frame* frame, uint32_t* vni) {
  if (frame->length < kVxlanBytes + kEthernetBytes || (frame->data[0] & kVxlanFlagI) == 0) return false;
  const uint8_t* header = frame->data;
  *vni = static_cast<uint32_t>(header[4]) << 16 | static_cast<uint32_t>(header[5]) << 8 | header[6];
  frame->data += kVxlanBytes;
  frame->length -= kVxlanBytes;
  return true;
}

inline void vxlan_header(uint8_t to[kVxlanBytes], uint32_t vni) {
  const uint8_t bytes[kVxlanBytes] = {kVxlanFlagI, 0, 0, 0, static_cast<uint8_t>(vni >> 16),
                                      static_cast<uint8_t>(vni >> 8), static_cast<uint8_t>(vni), 0};
  memcpy(to, bytes, sizeof bytes);
}

}  // namespace weft
