// Any frame through the translation of any connection, and a TCP connection with any segments.
//
// Whatever comes in, only addresses, ports, identifiers and checksums change; a checksum that was right
// is right afterwards; and a frame that is translated there and back is the same as before.
#include <vector>

#include "../checksum.h"
#include "../connection.h"
#include "../extract.h"
#include "../nat.h"
#include "fuzz.h"

using namespace weft;

namespace {

// Is the L4 checksum of the frame right? Only for frames that have one.
bool is_right(const Frame& frame, const Key& key, uint32_t l4) {
  const bool v4 = load16(key.eth_type) == 0x0800;
  const uint8_t* l3 = l3_of(frame, key);
  OnesSum sum = key.ip_proto == 1 ? OnesSum() : pseudo_sum(l3, v4, key.ip_proto, frame.length - l4);
  sum.add(frame.data + l4, frame.length - l4);
  return sum.folded() == 0xffff;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The input: what to do (u8), the addresses and ports of a tuple (36), the frame.
  if (size < 1 + sizeof(Tuple)) return 0;
  const bool related = *data & 1;
  const bool reply = *data & 2;
  Tuple other;
  memcpy(&other, data + 1, sizeof other);
  data += 1 + sizeof other;
  size -= 1 + sizeof other;
  const fuzz::Exact bytes(data, size);

  Frame frame = {bytes.bytes(), static_cast<uint32_t>(size), {}};
  Key key = {};
  Layout layout;
  if (extract(frame.data, frame.length, &key, &layout) != kNoDrop) return 0;
  frame.length = layout.length;
  const bool v4 = load16(key.eth_type) == 0x0800;
  if (v4) {
    memcpy(other.source, nat::kMappedPrefix, sizeof nat::kMappedPrefix);
    memcpy(other.destination, nat::kMappedPrefix, sizeof nat::kMappedPrefix);
  } else {
    // No IPv6 packet has an IPv4-mapped address.
    other.source[0] = other.destination[0] = 0x20;
  }
  Tuple own = {};
  memcpy(own.source, key.ip_src, 16);
  memcpy(own.destination, key.ip_dst, 16);
  const bool echo = key.ip_proto == nat::kIcmp || key.ip_proto == nat::kIcmpv6;
  memcpy(own.source_port, echo ? key.icmp_id : key.l4_src, 2);
  memcpy(own.destination_port, echo ? key.icmp_id : key.l4_dst, 2);
  if (echo) memcpy(other.destination_port, other.source_port, 2);

  const std::vector<uint8_t> before(frame.data, frame.data + frame.length);
  const uint32_t l4 = l4_of(frame, key);
  FUZZ_CHECK(l4 == layout.l4);
  Connection connection = {};
  connection.protocol = key.ip_proto;
  connection.original = own;
  connection.translated = other;
  if (related) {
    // The quoted packet is arbitrary; a matching tuple is found, any other changes nothing.
    const Endpoints from = reply ? forwards(other) : backwards(own);
    const Endpoints to = reply ? forwards(own) : backwards(other);
    const uint8_t protocol = echo ? nat::kUdp : key.ip_proto;
    if (!rewrite_related(frame, key, l4, protocol, from, to)) FUZZ_CHECK(memcmp(before.data(), frame.data, frame.length) == 0);
    return 0;
  }
  if (!is_of(connection, reply, key)) return 0;
  track(&connection, reply, frame, l4, 1);
  track(&connection, !reply, frame, l4, 2);
  const bool is_summed = key.ip_proto == nat::kTcp || key.ip_proto == nat::kUdp || echo;
  const bool has_sum = l4 && is_summed && key.ip_frag == kFragNone && !(key.ip_proto == nat::kUdp && load16(frame.data + l4 + 6) == 0);
  const bool was_right = has_sum && is_right(frame, key, l4);
  rewrite_nat(frame, key, l4, forwards(other));
  FUZZ_CHECK(!was_right || is_right(frame, key, l4));
  Key after = {};
  FUZZ_CHECK(extract(frame.data, frame.length, &after, &layout) == kNoDrop && layout.length == frame.length);
  FUZZ_CHECK(memcmp(after.ip_src, other.source, 16) == 0 && memcmp(after.ip_dst, other.destination, 16) == 0);
  rewrite_nat(frame, after, l4, forwards(own));
  // Checksums of 0 and of 0xffff are the same number.
  for (size_t i = 0; i < frame.length; ++i) {
    FUZZ_CHECK(before[i] == frame.data[i] || ((before[i] == 0 || before[i] == 0xff) && (frame.data[i] == 0 || frame.data[i] == 0xff)));
  }
  return 0;
}
