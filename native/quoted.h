// The packet that an ICMP error quotes: which conversation the error is about (RFC 792, RFC 4443 §3).
// src/flow/quoted.ts does the same.
#pragma once

#include <cstring>

#include "connection_table.h"
#include "nat.h"

namespace weft {

// Sets the tuple of what answers the quoted packet, which goes to its sender as the error does. `present` bytes of it, from its
// IP header on, are there. False if it cannot be read: ICMP of the other family, later fragments, IPv6 with extension headers
// other than the fragment header of a first fragment, and what is cut too short.
inline bool answer_to_quoted(const uint8_t* quoted, size_t present, bool v4, uint32_t place, TupleKey* to) {
  constexpr uint8_t kFragmentHeader = 44, kSctp = 132;
  if (present < (v4 ? 20u : 40u) || quoted[0] >> 4 != (v4 ? 4 : 6)) return false;
  const bool has_fragment_header = !v4 && quoted[6] == kFragmentHeader;
  const size_t header_bytes = v4 ? (quoted[0] & 15) * 4u : has_fragment_header ? 48 : 40;
  if (header_bytes < 20 || present < header_bytes + 8) return false;
  if (v4 ? load16(quoted + 6) & 0x1fff : has_fragment_header && load16(quoted + 42) & 0xfff8) return false;
  const uint8_t protocol = quoted[v4 ? 9 : has_fragment_header ? 40 : 6];
  if (protocol == (v4 ? nat::kIcmpv6 : nat::kIcmp)) return false;
  *to = {};
  const size_t size = v4 ? 4 : 16;
  const uint8_t* source = quoted + (v4 ? 12 : 8);
  if (v4) {
    memcpy(to->tuple.source, nat::kMappedPrefix, sizeof nat::kMappedPrefix);
    memcpy(to->tuple.destination, nat::kMappedPrefix, sizeof nat::kMappedPrefix);
  }
  memcpy(to->tuple.source + 16 - size, source + size, size);
  memcpy(to->tuple.destination + 16 - size, source, size);
  // An IPv4-mapped address in an IPv6 packet would be taken for IPv4.
  if (!v4 && (nat::is_v4(to->tuple.source) || nat::is_v4(to->tuple.destination))) return false;
  const uint8_t* l4 = quoted + header_bytes;
  if (protocol == nat::kTcp || protocol == nat::kUdp || protocol == kSctp) {
    memcpy(to->tuple.source_port, l4 + 2, 2);
    memcpy(to->tuple.destination_port, l4, 2);
  } else if (protocol == nat::kIcmp || protocol == nat::kIcmpv6) {
    memcpy(to->tuple.source_port, l4 + 4, 2);
    memcpy(to->tuple.destination_port, l4 + 4, 2);
  }
  to->place = place;
  to->protocol = protocol;
  return true;
}

}  // namespace weft
