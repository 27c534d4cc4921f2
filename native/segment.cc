#include "segment.h"

namespace weft {
namespace {

constexpr uint8_t kFin = 0x01;
constexpr uint8_t kPsh = 0x08;
constexpr uint8_t kCwr = 0x80;

struct Part {
  uint32_t l3;
  bool v4;
  bool tcp;
};

// Turns the headers of a superframe, at `to`, into those of a part of it: everything behind the IP
// header except the checksum. `first` is the number of its first segment.
Part number(uint8_t* to, const VnetHdr& vnet, uint32_t l4_bytes, uint32_t first, bool is_last) {
  const uint32_t l4 = vnet.csum_start;
  const uint32_t l3 = load16(to + 12) == 0x8100 || load16(to + 12) == 0x88a8 ? 18 : 14;
  const Part part = {l3, to[l3] >> 4 == 4, gso_kind(vnet) != kGsoUdp};
  if (part.v4) {
    store16(to + l3 + 2, l4 - l3 + l4_bytes);
    store16(to + l3 + 4, load16(to + l3 + 4) + first);
    store16(to + l3 + 10, 0);
    OnesSum sum;
    sum.add(to + l3, l4 - l3);
    store16(to + l3 + 10, sum.checksum());
  } else {
    store16(to + l3 + 4, l4 - l3 - 40 + l4_bytes);
  }
  if (part.tcp) {
    store32(to + l4 + 4, load32(to + l4 + 4) + first * vnet.gso_size);
    if (!is_last) to[l4 + 13] &= static_cast<uint8_t>(~(kFin | kPsh));
    if (first > 0) to[l4 + 13] &= static_cast<uint8_t>(~kCwr);
  } else {
    store16(to + l4 + 4, l4_bytes);
  }
  return part;
}

}  // namespace

void Segments::headers(uint32_t i, uint8_t* to) const {
  memcpy(to, frame_.data, header_bytes_);
  const VnetHdr& vnet = frame_.vnet;
  const iovec payload = this->payload(i);

  if (vnet.gso_type == kGsoNone) {
    if (header_bytes_ == 0) return;
    OnesSum sum;
    const size_t before = header_bytes_ - vnet.csum_start;
    sum.add(to + vnet.csum_start, before);
    // What follows starts at an odd offset if that length was odd.
    OnesSum rest;
    rest.add(static_cast<const uint8_t*>(payload.iov_base), payload.iov_len);
    sum.add16(before % 2 ? std::rotl(rest.folded(), 8) : rest.folded());
    store16(to + vnet.csum_start + vnet.csum_offset, sum.udp_checksum());
    return;
  }

  const uint32_t l4 = vnet.csum_start;
  const auto l4_bytes = static_cast<uint32_t>(header_bytes_ - l4 + payload.iov_len);
  const Part part = number(to, vnet, l4_bytes, i, i + 1 == count_);
  OnesSum sum = pseudo_sum(to + part.l3, part.v4, part.tcp ? 6 : 17, l4_bytes);
  store16(to + l4 + vnet.csum_offset, 0);
  sum.add(to + l4, header_bytes_ - l4);
  sum.add(static_cast<const uint8_t*>(payload.iov_base), payload.iov_len);
  store16(to + l4 + vnet.csum_offset, part.tcp ? sum.checksum() : sum.udp_checksum());
}

Halves::Halves(const Frame& frame) : frame_(frame), payload_(frame.length - frame.vnet.hdr_len) {
  first_segments_ = (segment_count(frame) + 1) / 2;
  memcpy(headers_, frame.data, frame.vnet.hdr_len);
}

Frame Halves::first() { return part(frame_.data, 0, first_segments_ * frame_.vnet.gso_size, false); }

Frame Halves::second() {
  const uint32_t before = first_segments_ * frame_.vnet.gso_size;
  uint8_t* at = frame_.data + before;
  memcpy(at, headers_, frame_.vnet.hdr_len);
  return part(at, first_segments_, payload_ - before, true);
}

// Made of the segments from `from` on; the headers of the superframe are at `at`.
Frame Halves::part(uint8_t* at, uint32_t from, uint32_t payload_bytes, bool is_last) {
  VnetHdr vnet = frame_.vnet;
  const uint32_t l4_bytes = vnet.hdr_len - vnet.csum_start + payload_bytes;
  const Part numbered = number(at, vnet, l4_bytes, from, is_last);
  const OnesSum pseudo = pseudo_sum(at + numbered.l3, numbered.v4, numbered.tcp ? 6 : 17, l4_bytes);
  store16(at + vnet.csum_start + vnet.csum_offset, pseudo.folded());
  if (from > 0) vnet.gso_type = gso_kind(vnet);
  return Frame{at, vnet.hdr_len + payload_bytes, vnet};
}

}  // namespace weft
