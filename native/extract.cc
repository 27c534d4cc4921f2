#include "extract.h"

#include "frame.h"

namespace weft {
namespace {

enum EtherType : uint32_t {
  kArp = 0x0806,
  kIpv4 = 0x0800,
  kIpv6 = 0x86dd,
  kVlan = 0x8100,
  kQinq = 0x88a8,
  kFirstType = 0x0600,
  kLength = 0x05ff,  // value of eth_type for 802.3 lengths
};

enum Protocol : uint8_t {
  kHopByHop = 0,
  kIcmp = 1,
  kTcp = 6,
  kUdp = 17,
  kRouting = 43,
  kFragment = 44,
  kAuthentication = 51,
  kIcmpv6 = 58,
  kDestination = 60,
  kSctp = 132,
  kMobility = 135,
};

enum Icmpv4Type : uint8_t {
  kEchoReply4 = 0,
  kEchoRequest4 = 8,
};

enum Icmpv6Type : uint8_t {
  kEchoRequest = 128,
  kEchoReply = 129,
  kRouterSolicitation = 133,
  kRouterAdvertisement = 134,
  kNeighborSolicitation = 135,
  kNeighborAdvertisement = 136,
  kRedirect = 137,
};

enum NdOption : uint8_t {
  kSourceLla = 1,
  kTargetLla = 2,
};

constexpr int kMaxExtensions = 8;
constexpr uint8_t kNdHopLimit = 255;

bool is_zero(const uint8_t* from, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    if (from[i]) return false;
  }
  return true;
}

// Is it an IPv4-mapped address (RFC 4291 §2.5.5.2)?
bool is_mapped(const uint8_t ip[16]) { return load16(ip + 10) == 0xffff && is_zero(ip, 10); }

void store_mapped(uint8_t to[16], const uint8_t* ip4) {
  to[10] = to[11] = 0xff;
  memcpy(to + 12, ip4, 4);
}

// The remaining bytes of a packet.
struct Rest {
  const uint8_t* at;
  size_t length;

  void skip(size_t bytes) {
    at += bytes;
    length -= bytes;
  }
};

Reason arp(Rest arp, Key* key) {
  static constexpr uint8_t kEthernetIpv4[6] = {0, 1, 8, 0, 6, 4};
  if (arp.length < 28 || memcmp(arp.at, kEthernetIpv4, sizeof kEthernetIpv4) != 0) return Reason::arp_malformed;
  if (arp.at[6] == 0) key->ip_proto = arp.at[7];
  memcpy(key->nd_lla, arp.at + 8, 6);
  store_mapped(key->ip_src, arp.at + 14);
  store_mapped(key->ip_dst, arp.at + 24);
  return kNoDrop;
}

// Can there be a packet that this is a part of? `headers` bytes come before each part.
bool is_possible(const FragmentPart& part, size_t headers) {
  constexpr size_t kMaxPacket = 65535;
  return part.bytes > 0 && headers + part.at + part.bytes <= kMaxPacket && !(part.more && part.bytes % 8);
}

// Is it a later one that would overwrite the smallest L4 header of this protocol?
bool begins_within_header(const FragmentPart& part, uint8_t protocol) {
  return part.at > 0 && part.at < (protocol == kTcp ? 20u : protocol == kSctp ? 12u : 0u);
}

FragmentPart ipv4_part(const uint8_t* header) {
  const uint32_t flags = load16(header + 6);
  return {load16(header + 4), (flags & 0x1fff) * 8, load16(header + 2) - (header[0] & 15) * 4u, (flags & 0x2000) != 0};
}

// `bytes`: what follows the fragment header.
FragmentPart ipv6_part(const uint8_t* header, size_t bytes) {
  const uint32_t flags = load16(header + 2);
  return {load32(header + 4), flags & 0xfff8, static_cast<uint32_t>(bytes), (flags & 1) != 0};
}

Reason fragment(const FragmentPart& part, size_t headers, uint8_t protocol, Key* key) {
  if (part.at == 0 && !part.more) return kNoDrop;
  if (!is_possible(part, headers)) return Reason::fragment_malformed;
  if (begins_within_header(part, protocol)) return Reason::fragment_tiny;
  key->ip_frag = part.at > 0 ? kFragLater : kFragFirst;
  return kNoDrop;
}

// Leaves `packet` at the L4 header, cut to its total length.
Reason ipv4(Rest* packet, Key* key) {
  const uint8_t* header = packet->at;
  if (packet->length < 20 || header[0] >> 4 != 4) return Reason::ipv4_malformed;
  const size_t header_bytes = (header[0] & 15u) * 4;
  const size_t total_bytes = load16(header + 2);
  if (header_bytes < 20 || total_bytes < header_bytes || total_bytes > packet->length) return Reason::ipv4_malformed;
  key->ip_tos = header[1];
  key->ip_ttl = header[8];
  key->ip_proto = header[9];
  store_mapped(key->ip_src, header + 12);
  store_mapped(key->ip_dst, header + 16);
  packet->length = total_bytes;
  packet->skip(header_bytes);
  return fragment(ipv4_part(header), header_bytes, key->ip_proto, key);
}

bool is_extension(uint8_t header) {
  switch (header) {
    case kHopByHop:
    case kRouting:
    case kFragment:
    case kAuthentication:
    case kDestination:
    case kMobility:
      return true;
    default:
      return false;
  }
}

// RFC 8200 §4; AH counts in units of 4 bytes, minus 2 (RFC 4302 §2.2).
size_t extension_bytes(uint8_t header, uint8_t length) {
  if (header == kFragment) return 8;
  return header == kAuthentication ? (length + 2u) * 4 : (length + 1u) * 8;
}

Reason ipv6(Rest* packet, Key* key) {
  const uint8_t* header = packet->at;
  if (packet->length < 40 || header[0] >> 4 != 6) return Reason::ipv6_malformed;
  const size_t payload_bytes = load16(header + 4);
  uint8_t next = header[6];
  if (payload_bytes > packet->length - 40) return Reason::ipv6_malformed;
  // RFC 2675: the length is in an option. A packet of that length fits into no frame.
  if (payload_bytes == 0 && next == kHopByHop) return Reason::ipv6_malformed;
  key->ip_tos = static_cast<uint8_t>(load16(header) >> 4);
  key->ip_ttl = header[7];
  // IPv4 addresses look like this in a key, so an IPv6 packet with such an address would be taken for IPv4.
  if (is_mapped(header + 8) || is_mapped(header + 24)) return Reason::ipv4_mapped;
  memcpy(key->ip_src, header + 8, 16);
  memcpy(key->ip_dst, header + 24, 16);
  packet->length = 40 + payload_bytes;
  packet->skip(40);

  bool fragmented = false;
  for (int walked = 0; is_extension(next) && key->ip_frag != kFragLater; ++walked) {
    const bool misplaced = (next == kHopByHop && walked > 0) || (next == kFragment && fragmented);
    if (walked == kMaxExtensions || misplaced) return Reason::ipv6_ext_headers;
    const uint8_t* extension = packet->at;
    const size_t bytes = packet->length < 8 ? SIZE_MAX : extension_bytes(next, extension[1]);
    if (bytes > packet->length) {
      return key->ip_frag == kFragFirst ? Reason::fragment_tiny : Reason::ipv6_ext_headers;
    }
    if (next == kFragment) {
      fragmented = true;
      const size_t before = payload_bytes - packet->length;
      const Reason bad = fragment(ipv6_part(extension, packet->length - bytes), before, extension[0], key);
      if (bad != kNoDrop) return bad;
    }
    next = extension[0];
    packet->skip(bytes);
  }
  key->ip_proto = next;
  return kNoDrop;
}

// Makes sure that every receiver takes the same address for the link-layer address, the one in the
// key: there is one option, of the right kind and length.
Reason neighbor_options(Rest options, uint8_t wanted, Key* key) {
  bool found = false;
  while (options.length > 0) {
    if (options.length < 8) return Reason::nd_malformed;
    const uint8_t type = options.at[0];
    const size_t bytes = options.at[1] * 8u;
    if (bytes == 0 || bytes > options.length) return Reason::nd_malformed;
    if (type == kSourceLla || type == kTargetLla) {
      const bool unspecified = wanted == kSourceLla && is_zero(key->ip_src, 16);
      const bool address = !(options.at[2] & 1) && !is_zero(options.at + 2, 6);
      if (found || type != wanted || bytes != 8 || !address || unspecified) return Reason::nd_malformed;
      found = true;
      memcpy(key->nd_lla, options.at + 2, 6);
    }
    options.skip(bytes);
  }
  return kNoDrop;
}

Reason neighbor_discovery(Rest message, Key* key) {
  static constexpr size_t kHeaderBytes[] = {8, 16, 24, 24, 40};  // in front of the options, from kRouterSolicitation on
  const uint8_t type = message.at[0];
  if (type < kRouterSolicitation || type > kRedirect) return kNoDrop;
  // RFC 6980: none of them may be fragmented.
  if (key->ip_frag != kFragNone || key->ip_ttl != kNdHopLimit || message.at[1] != 0) return Reason::nd_malformed;
  const size_t header_bytes = kHeaderBytes[type - kRouterSolicitation];
  if (message.length < header_bytes) return Reason::nd_malformed;
  if (type == kNeighborSolicitation || type == kNeighborAdvertisement) {
    const uint8_t* target = message.at + 8;
    if (target[0] == 0xff || is_mapped(target)) return Reason::nd_malformed;
    memcpy(key->nd_target, target, 16);
  }
  message.skip(header_bytes);
  const bool of_target = type == kNeighborAdvertisement || type == kRedirect;
  return neighbor_options(message, of_target ? kTargetLla : kSourceLla, key);
}

Reason ports(Rest segment, size_t header_bytes, Key* key) {
  if (segment.length < header_bytes) return Reason::l4_truncated;
  memcpy(key->l4_src, segment.at, 2);
  memcpy(key->l4_dst, segment.at + 2, 2);
  return kNoDrop;
}

Reason tcp(Rest segment, Key* key) {
  if (segment.length < 20) return Reason::l4_truncated;
  const size_t header_bytes = (segment.at[12] >> 4) * 4u;
  return header_bytes < 20 ? Reason::l4_truncated : ports(segment, header_bytes, key);
}

Reason icmp(Rest message, size_t header_bytes, Key* key) {
  if (message.length < header_bytes) return Reason::l4_truncated;
  key->l4_src[1] = message.at[0];
  key->l4_dst[1] = message.at[1];
  return kNoDrop;
}

Reason icmpv4(Rest message, Key* key) {
  const Reason reason = icmp(message, 8, key);
  if (reason == kNoDrop && (message.at[0] == kEchoRequest4 || message.at[0] == kEchoReply4)) {
    memcpy(key->icmp_id, message.at + 4, 2);
  }
  return reason;
}

Reason icmpv6(Rest message, Key* key) {
  const bool echo = message.length > 0 && (message.at[0] == kEchoRequest || message.at[0] == kEchoReply);
  const Reason reason = icmp(message, echo ? 8 : 4, key);
  if (reason == kNoDrop && echo) memcpy(key->icmp_id, message.at + 4, 2);
  return reason == kNoDrop ? neighbor_discovery(message, key) : reason;
}

Reason l4(Rest segment, Key* key, bool v6) {
  if (key->ip_frag == kFragLater) return kNoDrop;
  switch (key->ip_proto) {
    case kTcp:
      return tcp(segment, key);
    case kUdp:
      return ports(segment, 8, key);
    case kSctp:
      return ports(segment, 12, key);
    case kIcmp:
      return v6 ? kNoDrop : icmpv4(segment, key);
    case kIcmpv6:
      return v6 ? icmpv6(segment, key) : kNoDrop;
    default:
      return kNoDrop;
  }
}

}  // namespace

Reason extract(const uint8_t* frame, size_t length, Key* key, Layout* layout) {
  if (length < 14) return Reason::frame_too_short;
  if (length > kMaxFrame) return Reason::frame_too_long;
  memset(reinterpret_cast<uint8_t*>(key) + offsetof(Key, eth_dst), 0, kKeyBytes - offsetof(Key, eth_dst));
  memcpy(key->eth_dst, frame, 6);
  memcpy(key->eth_src, frame + 6, 6);

  uint32_t type = load16(frame + 12);
  Rest rest = {frame + 14, length - 14};
  if (type == kVlan || type == kQinq) {
    if (rest.length < 4) return Reason::frame_too_short;
    store16(key->vlan_tci, load16(rest.at) | 0x1000);
    type = load16(rest.at + 2);
    rest.skip(4);
  }
  if (type < kFirstType) type = kLength;
  store16(key->eth_type, type);

  *layout = {static_cast<uint32_t>(length), 0};
  if (type == kArp) return arp(rest, key);
  if (type != kIpv4 && type != kIpv6) return kNoDrop;
  const bool v6 = type == kIpv6;
  const Reason reason = v6 ? ipv6(&rest, key) : ipv4(&rest, key);
  if (reason != kNoDrop) return reason;
  layout->length = static_cast<uint32_t>(rest.at + rest.length - frame);
  if (key->ip_frag != kFragLater) layout->l4 = static_cast<uint32_t>(rest.at - frame);
  const Reason bad = l4(rest, key, v6);
  return bad == Reason::l4_truncated && key->ip_frag == kFragFirst ? Reason::fragment_tiny : bad;
}

FragmentPart fragment_part(const uint8_t* frame, const Key& key) {
  const uint8_t* l3 = frame + (load16(key.vlan_tci) ? 18 : 14);
  if (load16(key.eth_type) == kIpv4) return ipv4_part(l3);
  uint8_t next = l3[6];
  Rest rest = {l3 + 40, load16(l3 + 4)};
  while (next != kFragment) {
    const size_t bytes = extension_bytes(next, rest.at[1]);
    next = rest.at[0];
    rest.skip(bytes);
  }
  return ipv6_part(rest.at, rest.length - 8);
}

}  // namespace weft
