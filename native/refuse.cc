#include "refuse.h"

#include <algorithm>
#include <cstring>

#include "checksum.h"
#include "extract.h"
#include "fragment.h"
#include "segment.h"

namespace weft {
namespace {

constexpr uint32_t kEthernet = 14, kIpv4 = 20, kIpv6 = 40, kTcp = 20, kIcmp = 8;
constexpr uint8_t kProtoIcmp = 1, kProtoTcp = 6, kProtoIcmpv6 = 58;
constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;
constexpr uint8_t kTtl = 64;
constexpr uint8_t kInternetworkControl = 0xc0;
// The largest ICMP errors, from the IP header on.
constexpr uint32_t kLargest4 = 576, kLargest6 = 1280;
static_assert(kMaxAnswer == kEthernet + kLargest6);

struct IcmpError {
  uint8_t type4, code4, type6, code6;
};

IcmpError icmp_error(Answer answer) {
  switch (answer) {
    case Answer::net_unreachable:
      return {3, 0, 1, 0};
    case Answer::host_unreachable:
      return {3, 1, 1, 3};
    case Answer::port_unreachable:
      return {3, 3, 1, 4};
    case Answer::prohibited:
      return {3, 13, 1, 1};
    case Answer::time_exceeded:
      return {11, 0, 3, 0};
    case Answer::tcp_reset:
      break;
  }
  return {};
}

bool is_v4(const Key& key) { return load16(key.eth_type) == 0x0800; }

// Not unspecified, loopback, a group or reserved. In a key, IPv4 is IPv4-mapped.
bool is_one_host(const uint8_t* ip, bool v4) {
  if (v4) return ip[12] != 0 && ip[12] != 127 && ip[12] < 224;
  return ip[0] != 0xff && !(std::all_of(ip, ip + 15, [](uint8_t byte) { return byte == 0; }) && ip[15] <= 1);
}

// A multicast address, or 255.255.255.255.
bool is_group(const uint8_t* ip, bool v4) {
  return v4 ? ip[12] >> 4 == 14 || load32(ip + 12) == 0xffffffff : ip[0] == 0xff;
}

bool is_mapped(const uint8_t* ip) {
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return memcmp(ip, kMapped, sizeof kMapped) == 0;
}

// May an ICMP error be sent about it?
bool is_reported(const Key& key) {
  if (key.ip_frag == kFragLater) return false;
  const uint32_t type = load16(key.l4_src);
  if (key.ip_proto == kProtoIcmpv6) return type >= 128 && type != 137;
  return key.ip_proto != kProtoIcmp || !((type >= 3 && type <= 5) || type == 11 || type == 12);
}

// Writes the Ethernet and IP headers of an answer with a payload of that many bytes, `source` being 16 bytes as in a
// key. Returns where the IP header is.
uint8_t* write_headers(uint8_t* to, const Key& key, const uint8_t* source, uint8_t proto, uint32_t payload) {
  memcpy(to, key.eth_src, 6);
  memcpy(to + 6, key.eth_dst, 6);
  memcpy(to + 12, key.eth_type, 2);
  uint8_t* l3 = to + kEthernet;
  if (!is_v4(key)) {
    store32(l3, 0x60000000);
    store16(l3 + 4, payload);
    l3[6] = proto;
    l3[7] = kTtl;
    memcpy(l3 + 8, source, 16);
    memcpy(l3 + 24, key.ip_src, 16);
    return l3;
  }
  memset(l3, 0, kIpv4);
  l3[0] = 0x45;
  l3[1] = proto == kProtoIcmp ? kInternetworkControl : 0;
  store16(l3 + 2, kIpv4 + payload);
  store16(l3 + 6, proto == kProtoTcp ? kDontFragment : 0);
  l3[8] = kTtl;
  l3[9] = proto;
  memcpy(l3 + 12, source + 12, 4);
  memcpy(l3 + 16, key.ip_src + 12, 4);
  OnesSum sum;
  sum.add(l3, kIpv4);
  store16(l3 + 10, sum.checksum());
  return l3;
}

uint32_t write_reset(const Frame& frame, const Key& key, uint32_t l4, uint8_t* to) {
  const uint8_t* tcp = frame.data + l4;
  const uint8_t flags = tcp[13];
  uint8_t* l3 = write_headers(to, key, key.ip_dst, kProtoTcp, kTcp);
  uint8_t* reset = l3 + (is_v4(key) ? kIpv4 : kIpv6);
  memset(reset, 0, kTcp);
  memcpy(reset, tcp + 2, 2);
  memcpy(reset + 2, tcp, 2);
  reset[12] = kTcp / 4 << 4;
  if (flags & kAck) {
    memcpy(reset + 4, tcp + 8, 4);
    reset[13] = kRst;
  } else {
    const uint32_t payload = frame.length - l4 - (tcp[12] >> 4) * 4u;
    store32(reset + 8, load32(tcp + 4) + payload + !!(flags & kSyn) + !!(flags & kFin));
    reset[13] = kRst | kAck;
  }
  OnesSum sum = pseudo_sum(l3, is_v4(key), kProtoTcp, kTcp);
  sum.add(reset, kTcp);
  store16(reset + 16, sum.checksum());
  return static_cast<uint32_t>(reset + kTcp - to);
}

// Copies as much of the packet, from its IP header on, as there is room for. Returns how many bytes.
uint32_t quote(const Frame& frame, uint8_t* scratch, uint32_t room, uint8_t* to) {
  const Segments segments(frame);
  const uint32_t bytes = std::min(segments.bytes(0) - kEthernet, room);
  // Where the payload begins in the quote; 0 if the frame is sent as it is.
  const uint32_t headers = std::min(segments.header_bytes() > 0 ? segments.header_bytes() - kEthernet : 0, bytes);
  if (headers == 0) {
    frame.peek(kEthernet, bytes, to);
    return bytes;
  }
  segments.headers(0, scratch);
  memcpy(to, scratch + kEthernet, headers);
  memcpy(to + headers, segments.payload(0).iov_base, bytes - headers);
  return bytes;
}

uint32_t write_icmp(const Action& action, const Frame& frame, const Key& key, uint8_t* scratch, uint8_t* to) {
  const bool v4 = is_v4(key);
  const uint32_t ip_bytes = v4 ? kIpv4 : kIpv6;
  uint8_t* icmp = to + kEthernet + ip_bytes;
  const uint32_t quoted = quote(frame, scratch, (v4 ? kLargest4 : kLargest6) - ip_bytes - kIcmp, icmp + kIcmp);
  const IcmpError error = icmp_error(action.answer());
  memset(icmp, 0, kIcmp);
  icmp[0] = v4 ? error.type4 : error.type6;
  icmp[1] = v4 ? error.code4 : error.code6;
  const uint32_t bytes = kIcmp + quoted;
  const uint8_t* l3 = write_headers(to, key, action.address, v4 ? kProtoIcmp : kProtoIcmpv6, bytes);
  OnesSum sum = v4 ? OnesSum() : pseudo_sum(l3, false, kProtoIcmpv6, bytes);
  sum.add(icmp, bytes);
  store16(icmp + 2, sum.checksum());
  return static_cast<uint32_t>(icmp + bytes - to);
}

}  // namespace

Answerable answerable(const Action& action, const Frame& frame, const Key& key) {
  const bool v4 = is_v4(key);
  if ((!v4 && load16(key.eth_type) != 0x86dd) || key.vlan_tci[0]) return {};
  if ((key.eth_src[0] | key.eth_dst[0]) & 1) return {};
  if (!is_one_host(key.ip_src, v4) || is_group(key.ip_dst, v4)) return {};
  if (action.answer() != Answer::tcp_reset) return {is_reported(key) && is_mapped(action.address) == v4, 0};
  if (key.ip_proto != kProtoTcp || key.ip_frag != kFragNone) return {};
  Key own = {};
  Layout layout;
  if (extract(frame.data, frame.length, &own, &layout) != kNoDrop || layout.l4 == 0) return {};
  return {!(frame.data[layout.l4 + 13] & kRst), layout.l4};
}

uint32_t write_answer(const Action& action, const Frame& frame, const Key& key, uint32_t l4, uint8_t* scratch,
                      uint8_t* to) {
  if (action.answer() == Answer::tcp_reset) return write_reset(frame, key, l4, to);
  return write_icmp(action, frame, key, scratch, to);
}

}  // namespace weft
