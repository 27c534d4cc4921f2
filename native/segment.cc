#include "segment.h"

namespace weft {
namespace {

constexpr uint8_t kFin = 0x01;
constexpr uint8_t kPsh = 0x08;
constexpr uint8_t kCwr = 0x80;

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
    // What follows begins at an odd place, if that was odd.
    OnesSum rest;
    rest.add(static_cast<const uint8_t*>(payload.iov_base), payload.iov_len);
    sum.add16(before % 2 ? std::rotl(rest.folded(), 8) : rest.folded());
    store16(to + vnet.csum_start + vnet.csum_offset, sum.udp_checksum());
    return;
  }

  const uint32_t l4 = vnet.csum_start;
  const uint32_t l3 = load16(to + 12) == 0x8100 || load16(to + 12) == 0x88a8 ? 18 : 14;
  const bool v4 = to[l3] >> 4 == 4;
  const bool tcp = gso_kind(vnet) != kGsoUdp;
  const auto l4_bytes = static_cast<uint32_t>(header_bytes_ - l4 + payload.iov_len);

  if (v4) {
    store16(to + l3 + 2, l4 - l3 + l4_bytes);
    store16(to + l3 + 4, load16(to + l3 + 4) + i);
    store16(to + l3 + 10, 0);
    OnesSum sum;
    sum.add(to + l3, l4 - l3);
    store16(to + l3 + 10, sum.checksum());
  } else {
    store16(to + l3 + 4, l4 - l3 - 40 + l4_bytes);
  }

  if (tcp) {
    store32(to + l4 + 4, load32(to + l4 + 4) + i * size_);
    if (i + 1 < count_) to[l4 + 13] &= static_cast<uint8_t>(~(kFin | kPsh));
    if (i > 0) to[l4 + 13] &= static_cast<uint8_t>(~kCwr);
  } else {
    store16(to + l4 + 4, l4_bytes);
  }

  OnesSum sum = pseudo_sum(to + l3, v4, tcp ? 6 : 17, l4_bytes);
  store16(to + l4 + vnet.csum_offset, 0);
  sum.add(to + l4, header_bytes_ - l4);
  sum.add(static_cast<const uint8_t*>(payload.iov_base), payload.iov_len);
  store16(to + l4 + vnet.csum_offset, tcp ? sum.checksum() : sum.udp_checksum());
}

}  // namespace weft
