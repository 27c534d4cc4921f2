// Unfinished checksums of frames from the underlay.
//
// A sender whose network card computes checksums leaves the pseudo header's sum
// in the checksum field. On a wire the card finishes it; where the underlay is
// virtual (a veth to another namespace of the same machine) the frame arrives
// as it is, and its receiver would throw it away. src/datapath/finish.ts has
// the same.
#pragma once

#include <cstddef>
#include <cstdint>

#include "key.h"

namespace weft {

// The ones' complement sum of `size` bytes and `seed`, folded (RFC 1071).
inline uint16_t ones_sum(const uint8_t* bytes, size_t size, uint64_t seed) {
  uint64_t sum = seed;
  for (; size >= 2; bytes += 2, size -= 2) sum += static_cast<uint32_t>(bytes[0] << 8 | bytes[1]);
  if (size) sum += static_cast<uint32_t>(bytes[0] << 8);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// Finishes the TCP or UDP checksum of a frame that was extracted to `key`, if it
// holds the pseudo header's sum. A finished one has that value once in 65,536
// times, and comes out the same.
inline void finish_checksum(uint8_t* frame, uint32_t length, const Key& key) {
  constexpr uint8_t kTcp = 6, kUdp = 17;
  if ((key.ip_proto != kTcp && key.ip_proto != kUdp) || key.ip_frag != kFragNone) return;
  const size_t l3 = key.vlan_tci[0] ? 18 : 14;
  const bool is_v4 = key.eth_type[0] == 0x08 && key.eth_type[1] == 0x00;
  const bool is_v6 = key.eth_type[0] == 0x86 && key.eth_type[1] == 0xdd;
  if (!is_v4 && !(is_v6 && frame[l3 + 6] == key.ip_proto)) return;
  const size_t l4 = l3 + (is_v4 ? (frame[l3] & 15) * 4u : 40);
  const size_t size = length - l4;
  uint8_t* field = frame + l4 + (key.ip_proto == kTcp ? 16 : 6);

  const size_t addresses = is_v4 ? 8 : 32;
  const uint16_t pseudo = ones_sum(frame + l3 + (is_v4 ? 12 : 8), addresses, key.ip_proto + size);
  if (pseudo != (field[0] << 8 | field[1])) return;
  const uint16_t sum = static_cast<uint16_t>(~ones_sum(frame + l4, size, 0));
  store16(field, sum == 0 && key.ip_proto == kUdp ? 0xffff : sum);
}

}  // namespace weft
