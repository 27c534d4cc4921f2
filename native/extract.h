// From a frame to its flow key, in the order of the wire. src/flow/extract.ts follows exactly the
// same rules; the differential test compares the two. A frame is either what its headers say, or it
// has a drop reason: there is no partial key.
//
//  1. Ethernet: 14 bytes or frame_too_short, at most kMaxFrame or
//     frame_too_long. One 802.1Q or 802.1ad tag is read (4 bytes more, or
//     frame_too_short): vlan_tci = TCI | 0x1000; a second one stays as eth_type.
//     A type below 0x600 is an 802.3 length: eth_type 0x05ff, nothing more.
//  2. ARP: 28 bytes, Ethernet and IPv4, or arp_malformed. ip_proto is the
//     operation (0 when over 255), nd_lla the sender's MAC, ip_src and ip_dst
//     its and the target's protocol addresses. Not trimmed.
//  3. IPv4: version, IHL >= 5, total length within the frame and not below the
//     header, or ipv4_malformed. Offset != 0 is a later fragment, else MF makes
//     a first one.
//  4. IPv6: version and payload length within the frame, or ipv6_malformed (a
//     jumbogram too). An IPv4-mapped source or destination is ipv4_mapped: in a key
//     it would be taken for IPv4. Of hop-by-hop, routing, destination, mobility, AH
//     and fragment headers at most 8 are walked; one that does not fit, a ninth,
//     hop-by-hop behind another (RFC 8200 §4.1), or a second fragment header is
//     ipv6_ext_headers. The walk ends behind the fragment header of a later
//     fragment. An atomic fragment (RFC 6946) is none.
//     So ip_proto is the protocol that was reached, and never an extension header,
//     but for later fragments, which fragment_tracker.h gives that of their first.
//  5. L4, unless it is a later fragment: TCP (20 bytes, data offset >= 5 and
//     within the packet), UDP (8), SCTP (12), ICMP under IPv4 (8), ICMPv6 under
//     IPv6 (4, echo 8), or l4_truncated. ICMP type and code are l4_src and l4_dst.
//     Fragments of either family: one without payload, one that ends behind the
//     largest packet, and one that others follow and that is no multiple of 8 bytes
//     long are fragment_malformed. A first one that ends before its L4 header does
//     (RFC 7112), and a later one that begins within that of TCP or SCTP (RFC 1858
//     §3.2), are fragment_tiny.
//  6. Neighbor discovery (RFC 4861 §6.1, §7.1, §8.1, less the checksum), types 133
//     to 137: hop limit 255, code 0, no fragment (RFC 6980), its header of 8, 16,
//     24, 24 or 40 bytes, and options that fit and are not empty, or nd_malformed.
//     So is a link-layer address option that is not 8 bytes long, comes twice, is of
//     the wrong kind (a source's is in RS, RA and NS, a target's in NA and redirects),
//     holds no unicast MAC, or comes from "::"; and a target that is a group's or
//     IPv4-mapped. nd_target is of NS and NA, nd_lla of whatever has the option.
//
// IP packets are trimmed: the length is without Ethernet padding. Addresses of
// IPv4 are IPv4-mapped. Checksums are not verified: the receiving host does that.
#pragma once

#include <cstddef>
#include <cstdint>

#include "key.h"
#include "reason.h"

namespace weft {

// Where things are in a frame.
struct Layout {
  uint32_t length;  // without padding
  uint32_t l4;      // offset of the L4 header; 0 if none was read
};

// Fills `key` from eth_dst on; the caller fills in in_port, tun_vni and tun_src. `*layout` is set
// on kNoDrop; otherwise the contents of the key are meaningless. `length` may exceed the readable
// bytes only if it is over kMaxFrame.
Reason extract(const uint8_t* frame, size_t length, Key* key, Layout* layout);

// Which part of its datagram a fragment is. Offsets and lengths are in bytes.
struct FragmentPart {
  uint32_t id;
  uint32_t at;
  uint32_t bytes;  // > 0
  bool more;
};

// For a frame that was extracted to `key` with ip_frag other than kFragNone.
FragmentPart fragment_part(const uint8_t* frame, const Key& key);

}  // namespace weft
