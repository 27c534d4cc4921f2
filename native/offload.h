// What a received virtio_net_hdr may ask for (virtio 1.2 §5.1.6): to complete a checksum, and to
// segment a superframe.
//
// Whoever sent the frame controls this header, so nothing in it is trusted: it must agree with the
// frame's own headers. Above all, the checksum must be the frame's own, of TCP or UDP, or lie behind
// all headers that a decision reads: it is written after the frame was decided, and at another place
// it could change the source address. A frame that passes this check can be forwarded or segmented
// without another look. src/datapath/reference/offload.ts has the same rules.
#pragma once

#include "extract.h"
#include "frame.h"
#include "key.h"

namespace weft {

inline constexpr uint8_t kNeedsCsum = 1;
inline constexpr uint8_t kDataValid = 2;

inline constexpr uint8_t kGsoNone = 0;
inline constexpr uint8_t kGsoTcp4 = 1;
inline constexpr uint8_t kGsoTcp6 = 4;
inline constexpr uint8_t kGsoUdp = 5;
inline constexpr uint8_t kGsoEcn = 0x80;  // beside a TCP type: CWR belongs to the first segment only

inline constexpr uint16_t kTcpCsumOffset = 16;
inline constexpr uint16_t kUdpCsumOffset = 6;

// For a superframe: how many bytes of headers come before the payload, and how many segments it may
// have on its way through. One that comes in with more, up to twice as many, is split in two
// (segment.h): 64 KB for a peer with the smallest MSS that Linux accepts, 48. So the cost of one
// frame is bounded.
inline constexpr size_t kMaxHeaders = 256;
inline constexpr size_t kMaxSegments = 1024;

inline uint8_t gso_kind(const VnetHdr& vnet) { return vnet.gso_type & ~kGsoEcn; }

// Where the payload of a TCP segment or UDP datagram begins.
inline uint32_t payload_offset(const uint8_t* frame, uint32_t l4, bool tcp) {
  return l4 + (tcp ? (frame[l4 + 12] >> 4) * 4u : 8u);
}

// Size of the largest packet as which the frame is sent, from behind the Ethernet header on (14
// bytes: tagged frames are not routed). For a superframe, that of its segments.
inline uint32_t packet_bytes(const Frame& frame) {
  const VnetHdr& vnet = frame.vnet;
  return (vnet.gso_type == kGsoNone ? frame.length : uint32_t{vnet.hdr_len} + vnet.gso_size) - 14;
}

// As how many frames it is sent where superframes are not supported.
inline uint32_t segment_count(const Frame& frame) {
  const VnetHdr& vnet = frame.vnet;
  if (vnet.gso_type == kGsoNone) return 1;
  return (frame.length - vnet.hdr_len + vnet.gso_size - 1) / vnet.gso_size;
}

// The bytes of all these frames: for a superframe, including the headers of each segment.
inline uint32_t wire_bytes(const Frame& frame) {
  return frame.length + (segment_count(frame) - 1) * frame.vnet.hdr_len;
}

// Sets hdr_len of the virtio_net_hdr from the frame: the kernel keeps that much in one piece.
inline void set_header_bytes(Frame* frame) {
  VnetHdr& vnet = frame->vnet;
  const bool tcp = gso_kind(vnet) != kGsoUdp;
  vnet.hdr_len = vnet.gso_type ? static_cast<uint16_t>(payload_offset(frame->data, vnet.csum_start, tcp)) : 0;
}

// Is it the checksum of the frame's own TCP or UDP header?
inline bool is_own_checksum(const VnetHdr& vnet, const Key& key, uint32_t l4) {
  if (l4 == 0 || key.ip_frag != kFragNone || vnet.csum_start != l4) return false;
  return (key.ip_proto == 6 && vnet.csum_offset == kTcpCsumOffset) || (key.ip_proto == 17 && vnet.csum_offset == kUdpCsumOffset);
}

// Is it the checksum of a packet inside this one: behind a UDP header (a tunnel of the container's
// own), or directly behind the IP header of a tunnelling protocol?
inline bool is_inner_checksum(const Frame& frame, const Key& key, uint32_t l4) {
  constexpr uint8_t kIpip = 4, kUdp = 17, kIpv6 = 41, kGre = 47;
  const VnetHdr& vnet = frame.vnet;
  if (l4 == 0 || key.ip_frag != kFragNone) return false;
  if (uint32_t{vnet.csum_start} + vnet.csum_offset + 2 > frame.length) return false;
  if (key.ip_proto == kUdp) return vnet.csum_start >= l4 + 8;
  return vnet.csum_start >= l4 && (key.ip_proto == kIpip || key.ip_proto == kIpv6 || key.ip_proto == kGre);
}

// Checks the header that came with a frame, which was extracted to `key`. Clears what has no
// meaning later, and sets hdr_len again. False if it asks for something that cannot be done.
// kDataValid stays, for the coalescer.
inline bool offload_check(Frame* frame, const Key& key, uint32_t l4) {
  VnetHdr& vnet = frame->vnet;
  vnet.hdr_len = 0;
  if (vnet.flags & ~(kNeedsCsum | kDataValid)) return false;
  const uint8_t kind = gso_kind(vnet);
  const bool tcp = kind == kGsoTcp4 || kind == kGsoTcp6;
  if (kind != kGsoNone && kind != kGsoUdp && !tcp) return false;
  if ((vnet.gso_type & kGsoEcn) && !tcp) return false;

  if (!(vnet.flags & kNeedsCsum)) {
    vnet.csum_start = vnet.csum_offset = 0;
  } else if (!is_own_checksum(vnet, key, l4) && !is_inner_checksum(*frame, key, l4)) {
    return false;
  }
  if (kind == kGsoNone) {
    vnet.gso_size = 0;
    return true;
  }

  if (!(vnet.flags & kNeedsCsum) || !is_own_checksum(vnet, key, l4) || vnet.gso_size == 0) return false;
  const bool v4 = key.eth_type[0] == 0x08;
  if (key.ip_proto != (tcp ? 6 : 17) || (tcp && v4 != (kind == kGsoTcp4))) return false;
  const uint32_t headers = payload_offset(frame->data, l4, tcp);
  if (headers > kMaxHeaders) return false;
  if (!tcp && load16(frame->data + l4 + 4) != frame->length - l4) return false;
  const uint32_t payload = frame->length - headers;
  if (payload > 2 * kMaxSegments * vnet.gso_size) return false;
  if (payload > vnet.gso_size) {
    vnet.hdr_len = static_cast<uint16_t>(headers);
  } else {
    vnet.gso_type = kGsoNone;
    vnet.gso_size = 0;
  }
  return true;
}

}  // namespace weft
