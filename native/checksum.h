// The Internet checksum (RFC 1071), and the sums that offloads leave unfinished.
//
// An unfinished TCP or UDP checksum field holds the sum of the pseudo header, not complemented;
// whoever handles the frame last adds the rest.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "frame.h"
#include "key.h"
#include "offload.h"

namespace weft {

// A ones' complement sum in progress: 16-bit words as on the wire, in any order.
class OnesSum {
 public:
  void add16(uint32_t word) { sum_ += word; }

  // Adds bytes that start at an even offset.
  void add(const uint8_t* bytes, size_t size) {
    static_assert(std::endian::native == std::endian::little);
    // Words as they are in memory: the byte order only swaps the result (§2 B). Halves of 64-bit
    // lanes, summed separately, have room for 2^32 carries.
    using Lanes = uint64_t __attribute__((vector_size(16)));
    Lanes low[2] = {}, high[2] = {};
    for (; size >= 32; bytes += 32, size -= 32) {
      Lanes words[2];
      memcpy(words, bytes, 32);
      for (int i = 0; i < 2; ++i) {
        low[i] += words[i] & 0xffffffff;
        high[i] += words[i] >> 32;
      }
    }
    const Lanes lanes = low[0] + low[1] + high[0] + high[1];
    uint64_t sum = fold64(lanes[0]) + fold64(lanes[1]);
    for (; size >= 8; bytes += 8, size -= 8) {
      uint64_t word;
      memcpy(&word, bytes, 8);
      sum += fold64(word);
    }
    uint64_t last = 0;
    if (size) memcpy(&last, bytes, size);
    sum += fold64(last);
    sum = fold64(sum);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum_ += std::rotl(static_cast<uint16_t>(sum), 8);
  }

  uint16_t folded() const {
    uint64_t sum = sum_;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(sum);
  }
  // The value for the header. For UDP a computed 0 is sent as 0xffff (RFC 768), which is the same number.
  uint16_t checksum() const { return static_cast<uint16_t>(~folded()); }
  uint16_t udp_checksum() const {
    const uint16_t sum = checksum();
    return sum ? sum : 0xffff;
  }

 private:
  static uint64_t fold64(uint64_t sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    return (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
  }

  uint64_t sum_ = 0;
};

// Is the checksum of an IPv4 header right? `l3` was extracted from a frame.
inline bool has_right_ipv4_header(const uint8_t* l3) {
  OnesSum sum;
  sum.add(l3, (l3[0] & 15) * 4u);
  return sum.folded() == 0xffff;
}

// Stores an ICMP checksum for IPv4 that was computed from what changed (RFC 1624). That computation
// gives 0 both when the words add up to 0xffff and when they are all zero. But over nothing except
// zeros the checksum is 0xffff: an echo reply without identifier, sequence number and data has it.
// Every other message contains something that is not zero. `bytes` is how much of the message is
// there; for a first fragment, that part decides.
inline void store_icmp_checksum(uint8_t* icmp, size_t bytes, uint16_t checksum) {
  store16(icmp + 2, checksum);
  if (checksum != 0) return;
  for (size_t i = 0; i < bytes; ++i) {
    if (icmp[i]) return;
  }
  store16(icmp + 2, 0xffff);
}

// The sum of the pseudo header for an IP packet at `l3` (RFC 9293 §3.1, RFC 8200 §8.1).
inline OnesSum pseudo_sum(const uint8_t* l3, bool v4, uint8_t proto, uint32_t l4_bytes) {
  OnesSum sum;
  sum.add(l3 + (v4 ? 12 : 8), v4 ? 8 : 32);
  sum.add16(proto);
  sum.add16(l4_bytes >> 16);
  sum.add16(l4_bytes & 0xffff);
  return sum;
}

// Marks the checksum of a frame from the underlay as unfinished if it holds the sum of the pseudo
// header: the sender left it to a network card, and a virtual underlay has none. A finished
// checksum has that value once in 65,536 times, and comes out the same.
inline void mark_unfinished(Frame* frame, const Key& key, uint32_t l4) {
  const bool tcp = key.ip_proto == 6;
  if ((!tcp && key.ip_proto != 17) || key.ip_frag != kFragNone || l4 == 0) return;
  const uint8_t* l3 = frame->data + (key.vlan_tci[0] ? 18 : 14);
  const bool v4 = key.eth_type[0] == 0x08;
  if (!v4 && l3 + 40 != frame->data + l4) return;
  const uint16_t offset = tcp ? kTcpCsumOffset : kUdpCsumOffset;
  if (pseudo_sum(l3, v4, key.ip_proto, frame->length - l4).folded() != load16(frame->data + l4 + offset)) return;
  frame->vnet = VnetHdr{kNeedsCsum, kGsoNone, 0, 0, static_cast<uint16_t>(l4), offset};
}

}  // namespace weft
