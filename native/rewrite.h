// What is written into a frame before it is sent: routing (RFC 1812 §5.3.1) and
// turning an echo request around (RFC 792, RFC 4443 §4.2). In place, in the
// frame's own memory; all headers are in its first part. What a frame does not
// have is left alone, so that any action is harmless on any frame.
// src/datapath/rewrite.ts does the same.
#pragma once

#include <algorithm>
#include <cstring>

#include "action.h"
#include "checksum.h"
#include "extract.h"
#include "frame.h"
#include "key.h"

namespace weft {

inline constexpr uint8_t kEchoTtl = 64;

// Where the IP header is; `key` was extracted from the frame.
inline uint8_t* l3_of(const Frame& frame, const Key& key) { return frame.data + (key.vlan_tci[0] ? 18 : 14); }

// MAC addresses of the next hop, and one less of TTL or hop limit, unless that is 0.
inline void rewrite_route(const Frame& frame, const Key& key, const Action& action) {
  memcpy(frame.data + 6, action.address, 6);
  memcpy(frame.data, action.address + 6, 6);
  if (key.ip_ttl == 0) return;
  uint8_t* l3 = l3_of(frame, key);
  switch (load16(key.eth_type)) {
    case 0x0800: {
      --l3[8];
      const uint32_t sum = load16(l3 + 10) + 0x100;  // RFC 1141
      store16(l3 + 10, sum + (sum >= 0xffff));
      break;
    }
    case 0x86dd:
      --l3[7];
      break;
    default:
      break;
  }
}

// An echo request to its reply, with a new TTL. The ICMP checksum changes by what
// the type does (RFC 1624); that of ICMPv6 covers addresses, in any order.
inline void rewrite_echo(const Frame& frame) {
  constexpr uint32_t kIcmp = 1, kIcmpv6 = 58;
  Key key = {};
  Layout layout;
  if (extract(frame.data, frame.length, &key, &layout) != kNoDrop) return;
  const bool v4 = load16(key.eth_type) == 0x0800;
  const bool request = key.ip_proto == (v4 ? kIcmp : kIcmpv6) && load16(key.l4_src) == (v4 ? 8 : 128);
  if (!request || layout.l4 == 0 || key.ip_frag != kFragNone) return;

  uint8_t* l3 = l3_of(frame, key);
  uint8_t* icmp = frame.data + layout.l4;
  std::swap_ranges(frame.data, frame.data + 6, frame.data + 6);
  const size_t address_bytes = v4 ? 4 : 16;
  uint8_t* source = l3 + (v4 ? 12 : 8);
  std::swap_ranges(source, source + address_bytes, source + address_bytes);
  const auto before = static_cast<uint16_t>(load16(icmp));
  icmp[0] = v4 ? 0 : 129;
  OnesSum sum;
  sum.add16(static_cast<uint16_t>(~load16(icmp + 2)));
  sum.add16(static_cast<uint16_t>(~before));
  sum.add16(load16(icmp));
  store16(icmp + 2, sum.checksum());
  if (v4) {
    l3[8] = kEchoTtl;
    store16(l3 + 10, 0);
    OnesSum header;
    header.add(l3, (l3[0] & 15) * 4u);
    store16(l3 + 10, header.checksum());
  } else {
    l3[7] = kEchoTtl;
  }
}

}  // namespace weft
