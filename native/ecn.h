// The ECN field across the tunnel (RFC 6040). src/datapath/reference/ecn.ts does the same.
#pragma once

#include <cstdint>

#include "checksum.h"
#include "frame.h"
#include "key.h"

namespace weft {

inline constexpr uint8_t kEcnMask = 3;
inline constexpr uint8_t kNotEct = 0;
inline constexpr uint8_t kEct1 = 1;
inline constexpr uint8_t kEct0 = 2;
inline constexpr uint8_t kCe = 3;

// The outer TOS or traffic class for a frame with this key: its ECN field (RFC 6040 §4.1, normal
// mode), Not-ECT for other protocols than IP, and DSCP 0 or the inner DSCP.
inline uint8_t outer_tos(const Key& key, bool copy_dscp) {
  return copy_dscp ? key.ip_tos : key.ip_tos & kEcnMask;
}

// Combines the ECN field of `outer`, the TOS of the datagram, with that of the frame inside, in
// place, and in `key`, which was extracted from the frame (RFC 6040 §4.2, Figure 4). False if the
// frame must be dropped, since its sender would not learn of the congestion. Other protocols than
// IP are left alone.
inline bool ecn_decap(const Frame& frame, Key* key, uint8_t outer) {
  const uint8_t ecn = outer & kEcnMask;
  if (ecn != kCe && ecn != kEct1) return true;
  const uint32_t type = load16(key->eth_type);
  if (type != 0x0800 && type != 0x86dd) return true;
  const uint8_t inner = key->ip_tos & kEcnMask;
  if (inner == kNotEct) return ecn != kCe;
  if (inner == kCe || inner == ecn) return true;

  uint8_t* l3 = frame.data + (key->vlan_tci[0] ? 18 : 14);
  key->ip_tos = static_cast<uint8_t>((key->ip_tos & ~kEcnMask) | ecn);
  if (type == 0x86dd) {
    l3[1] = static_cast<uint8_t>((l3[1] & ~(kEcnMask << 4)) | ecn << 4);
    return true;
  }
  OnesSum sum;  // RFC 1624
  sum.add16(static_cast<uint16_t>(~load16(l3 + 10)));
  sum.add16(static_cast<uint16_t>(~load16(l3)));
  l3[1] = key->ip_tos;
  sum.add16(load16(l3));
  store16(l3 + 10, sum.checksum());
  return true;
}

}  // namespace weft
