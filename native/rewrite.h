// Changes to a frame before it is sent: routing (RFC 1812 §5.3.1), turning an echo request into its
// reply (RFC 792, RFC 4443 §4.2), and the segment size that TCP announces (RFC 9293 §3.7.1). They
// work in place, in the frame's own memory; all headers must be in its first part. Fields that a
// frame does not have are ignored, so any action is harmless on any frame.
// src/datapath/reference/rewrite.ts does the same.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>

#include "action.h"
#include "checksum.h"
#include "extract.h"
#include "frame.h"
#include "key.h"
#include "offload.h"

namespace weft {

inline constexpr uint8_t kEchoTtl = 64;

// Where the IP header is; `key` was extracted from the frame.
inline uint8_t* l3_of(const Frame& frame, const Key& key) { return frame.data + (key.vlan_tci[0] ? 18 : 14); }

// Sets the MAC addresses of the next hop, and decrements TTL or hop limit unless it is 0.
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

// Sets the DSCP (RFC 2474), and leaves ECN as it is, also in `key`, which was extracted from the frame. A wrong checksum stays wrong
// (RFC 1624). Other protocols than IP have none.
inline void rewrite_dscp(const Frame& frame, Key* key, uint8_t dscp) {
  uint8_t* l3 = l3_of(frame, *key);
  const auto tos = static_cast<uint8_t>(dscp << 2 | (key->ip_tos & 3));
  switch (load16(key->eth_type)) {
    case 0x0800: {
      OnesSum sum;
      sum.add16(static_cast<uint16_t>(~load16(l3 + 10)));
      sum.add16(static_cast<uint16_t>(~load16(l3)));
      l3[1] = tos;
      sum.add16(load16(l3));
      store16(l3 + 10, sum.checksum());
      break;
    }
    case 0x86dd:
      l3[0] = static_cast<uint8_t>((l3[0] & 0xf0) | tos >> 4);
      l3[1] = static_cast<uint8_t>((l3[1] & 0x0f) | tos << 4);
      break;
    default:
      return;
  }
  key->ip_tos = tos;
}

// Turns an echo request into its reply, with a new TTL. The ICMP checksum changes by the change of
// the type (RFC 1624); that of ICMPv6 covers the addresses, but their order does not matter. So
// each fragment of a request becomes a fragment of the reply, independently: the first one has the
// type, and a later one belongs to a request if `key`, which has the values of its first one, says
// so.
inline void rewrite_echo(const Frame& frame, const Key& key) {
  constexpr uint32_t kIcmp = 1, kIcmpv6 = 58;
  Key own = {};
  Layout layout;
  if (extract(frame.data, frame.length, &own, &layout) != kNoDrop) return;
  const bool v4 = load16(own.eth_type) == 0x0800;
  const bool later = own.ip_frag == kFragLater;
  const Key& of = later ? key : own;
  const bool request = of.ip_proto == (v4 ? kIcmp : kIcmpv6) && load16(of.l4_src) == (v4 ? 8 : 128);
  if (!request || (layout.l4 == 0 && !later)) return;

  uint8_t* l3 = l3_of(frame, own);
  uint8_t* icmp = frame.data + layout.l4;
  std::swap_ranges(frame.data, frame.data + 6, frame.data + 6);
  const size_t address_bytes = v4 ? 4 : 16;
  uint8_t* source = l3 + (v4 ? 12 : 8);
  std::swap_ranges(source, source + address_bytes, source + address_bytes);
  if (!later) {
    const auto before = static_cast<uint16_t>(load16(icmp));
    icmp[0] = v4 ? 0 : 129;
    OnesSum sum;
    sum.add16(static_cast<uint16_t>(~load16(icmp + 2)));
    sum.add16(static_cast<uint16_t>(~before));
    sum.add16(load16(icmp));
    if (v4) {
      store_icmp_checksum(icmp, frame.length - layout.l4, sum.checksum());
    } else {
      store16(icmp + 2, sum.checksum());
    }
  }
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

// Lowers the value of an option at `at`, and adjusts the checksum (RFC 1624); an unfinished
// checksum covers no option. At an odd offset the words of the sum are different ones.
inline void lower_mss(uint8_t* tcp, uint32_t at, uint16_t mss, bool unfinished) {
  const uint32_t before = load16(tcp + at);
  if (before <= mss) return;
  store16(tcp + at, mss);
  if (unfinished) return;
  const auto word = [at](uint32_t value) { return at % 2 ? std::rotl(static_cast<uint16_t>(value), 8) : value; };
  OnesSum sum;
  sum.add16(static_cast<uint16_t>(~load16(tcp + 16)));
  sum.add16(static_cast<uint16_t>(~word(before)));
  sum.add16(word(mss));
  store16(tcp + 16, sum.checksum());
}

// Makes a SYN announce segments no larger than `mss`. One that announces none is left unchanged,
// and options are read only as far as they are well-formed.
inline void rewrite_mss(const Frame& frame, const Key& key, uint16_t mss) {
  constexpr uint32_t kTcp = 6, kTcpBytes = 20, kFlags = 13, kSyn = 2;
  if (key.ip_proto != kTcp) return;
  const uint8_t* l3 = l3_of(frame, key);
  const bool v4 = load16(key.eth_type) == 0x0800;
  if (v4 || l3[6] == kTcp) {  // most are not SYNs: no need to look any closer
    const uint8_t* flags = l3 + (v4 ? (l3[0] & 15) * 4u : 40) + kFlags;
    if (flags >= frame.data + frame.length || !(*flags & kSyn)) return;
  }
  Key own = {};  // a fragment's own values differ from those of its packet
  Layout layout;
  if (extract(frame.data, frame.length, &own, &layout) != kNoDrop) return;
  if (own.ip_proto != kTcp || own.ip_frag == kFragLater || layout.l4 == 0) return;
  uint8_t* tcp = frame.data + layout.l4;
  const uint32_t end = std::min<uint32_t>((tcp[12] >> 4) * 4u, frame.length - layout.l4);
  if (!(tcp[kFlags] & kSyn)) return;

  constexpr uint8_t kEnd = 0, kNop = 1, kMss = 2, kMssBytes = 4;
  for (uint32_t at = kTcpBytes; at < end && tcp[at] != kEnd;) {
    if (tcp[at] == kNop) {
      ++at;
      continue;
    }
    if (at + 1 >= end || tcp[at + 1] < 2 || at + tcp[at + 1] > end) return;
    if (tcp[at] == kMss && tcp[at + 1] == kMssBytes) lower_mss(tcp, at + 2, mss, frame.vnet.flags & kNeedsCsum);
    at += tcp[at + 1];
  }
}

// `action` must be one that rewrites.
inline void rewrite(const Frame& frame, const Key& key, const Action& action) {
  switch (action.op) {
    case Op::route:
      return rewrite_route(frame, key, action);
    case Op::echo:
      return rewrite_echo(frame, key);
    case Op::clamp:
      return rewrite_mss(frame, key, static_cast<uint16_t>(action.argument));
    default:
      return;
  }
}

}  // namespace weft
