// Answers to refused frames: a TCP reset (RFC 9293 §3.10.7.1), or an ICMP error (RFC 792, RFC 4443 §3).
// src/datapath/reference/refuse.ts does the same.
//
// No answer goes to a tagged frame, to or from a group, to a source that is not one host, or to anything
// but IP (RFC 1812 §4.3.2.7, RFC 4443 §2.4 e). An ICMP error is never about an ICMP error, a redirect or
// a later fragment. A reset answers whole TCP segments only, since the length of a fragmented one is not
// known, and never another reset.
//
//   TCP reset    from the address, port and MAC that the segment was sent to. Its sequence number is what
//                the segment acknowledges. If that acknowledges nothing, the reset has sequence number 0 and
//                acknowledges all of the segment. IPv4 has DF, and so identification 0 (RFC 6864 §4.1).
//   ICMP error   from the address in the action, and the MAC that the frame was sent to. It quotes as much
//                of the packet as fits into 576 bytes (RFC 1812 §4.3.2.3), or 1280 (RFC 4443 §2.4 c); of
//                a superframe, its first segment. IPv4 has the precedence of internetwork control (RFC
//                1812 §4.3.2.5).
#pragma once

#include <cstddef>
#include <cstdint>

#include "action.h"
#include "frame.h"
#include "key.h"

namespace weft {

// The longest answer, an ICMPv6 error, with its Ethernet header.
inline constexpr size_t kMaxAnswer = 14 + 1280;

// What an answer needs to know of the refused frame.
struct Answerable {
  bool yes;
  uint32_t l4;  // for a reset: where the TCP header is
};

// May `action`, a refuse, answer the frame? It was extracted to `key`, and its IPv4 header is correct.
Answerable answerable(const Action& action, const Frame& frame, const Key& key);

// Writes the answer, at most kMaxAnswer bytes; returns its length. `l4` is that of answerable. `scratch` has room for
// the headers of a segment: kMaxFrame bytes.
uint32_t write_answer(const Action& action, const Frame& frame, const Key& key, uint32_t l4, uint8_t* scratch,
                      uint8_t* to);

}  // namespace weft
