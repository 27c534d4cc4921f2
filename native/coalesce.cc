#include "coalesce.h"

#include "checksum.h"
#include "offload.h"

namespace weft {
namespace {

constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;
constexpr uint8_t kAck = 0x10;
constexpr uint8_t kPsh = 0x08;
constexpr uint32_t kL3 = 14;
constexpr uint32_t kMaxIpBytes = 65535;  // so that a superframe is at most kMaxFrame, also with IPv6

bool dont_fragment(const uint8_t* frame) { return frame[kL3 + 6] & 0x40; }
uint8_t tcp_flags(const uint8_t* frame, uint32_t l4) { return frame[l4 + 13]; }

bool same_flow(const Words& a, const Words& b) {
  uint64_t difference = 0;
  for (size_t i = 0; i < kKeyWords; ++i) difference |= (a.at[i] ^ b.at[i]) & (i == kMarksWord ? kWithoutMarks : ~uint64_t{0});
  return difference == 0;
}

}  // namespace

void Coalescer::add(const Frame& frame, const Words& words, const Layout& layout, bool alone) {
  if (alone) return emit(frame, words);
  const Key key = words.key();
  Plain plain;
  if (!is_plain(frame, key, layout, &plain)) {
    while (!open_.empty()) emit(0);
    return emit(frame, words);
  }
  size_t at = 0;
  while (at < open_.size() && !same_flow(open_[at].key, words)) ++at;
  const bool found = at < open_.size();
  const bool mergeable = may_merge(frame, plain);

  if (mergeable && found && continues(open_[at], frame, words, plain)) {
    append(&open_[at], frame, plain);
    if (open_[at].push || plain.payload_bytes < open_[at].plain.payload_bytes) emit(at);
    return;
  }
  if (found) emit(at);
  if (!mergeable || (plain.tcp && (tcp_flags(frame.data, plain.l4) & kPsh))) return emit(frame, words);
  if (open_.size() == kOpen) emit(0);
  const auto id = static_cast<uint16_t>(load16(frame.data + kL3 + 4));
  open_.push_back({frame, words, plain, 1, frame.length, plain.payload_bytes, id, false, nullptr});
}

std::vector<Arrival>& Coalescer::finish() {
  while (!open_.empty()) emit(0);
  return arrivals_;
}

bool Coalescer::is_plain(const Frame& frame, const Key& key, const Layout& layout, Plain* plain) {
  if ((key.ip_proto != kTcp && key.ip_proto != kUdp) || layout.l4 == 0 || load16(key.vlan_tci) || key.ip_frag != kFragNone) {
    return false;
  }
  plain->v4 = load16(key.eth_type) == 0x0800;
  plain->tcp = key.ip_proto == kTcp;
  plain->l4 = layout.l4;
  if (layout.l4 != kL3 + (plain->v4 ? 20u : 40u)) return false;
  if (plain->v4 && (load16(frame.data + kL3 + 6) & ~0x4000u)) return false;
  plain->payload = payload_offset(frame.data, layout.l4, plain->tcp);
  plain->payload_bytes = frame.length - plain->payload;
  return true;
}

bool Coalescer::may_merge(const Frame& frame, const Plain& plain) {
  const uint8_t* l4 = frame.data + plain.l4;
  if (frame.vnet.gso_type != kGsoNone || plain.payload_bytes == 0) return false;
  if (plain.tcp) {
    if ((l4[12] & 0x0f) || (l4[13] & ~kPsh) != kAck) return false;
  } else if (load16(l4 + 4) != frame.length - plain.l4 || load16(l4 + kUdpCsumOffset) == 0) {
    return false;
  }
  if (plain.v4) {
    OnesSum sum;
    sum.add(frame.data + kL3, 20);
    if (sum.folded() != 0xffff) return false;
  }
  if (frame.vnet.flags & kNeedsCsum) {
    return frame.vnet.csum_start == plain.l4 && frame.vnet.csum_offset == (plain.tcp ? kTcpCsumOffset : kUdpCsumOffset);
  }
  if (frame.vnet.flags & kDataValid) return true;
  OnesSum sum = pseudo_sum(frame.data + kL3, plain.v4, plain.tcp ? kTcp : kUdp, frame.length - plain.l4);
  sum.add(l4, frame.length - plain.l4);
  return sum.folded() == 0xffff;
}

bool Coalescer::continues(const Open& open, const Frame& frame, const Words& key, const Plain& plain) {
  const uint8_t* a = open.first.data;
  const uint8_t* b = frame.data;
  if (!(open.key == key) || open.count == kMaxSuperframe) return false;
  if (plain.payload != open.plain.payload || plain.payload_bytes > open.plain.payload_bytes) return false;
  const uint32_t ip_bytes = plain.payload + open.payload_bytes + plain.payload_bytes - kL3;
  if (ip_bytes > kMaxIpBytes) return false;
  if (plain.v4) {
    if (dont_fragment(a) != dont_fragment(b)) return false;
    if (!dont_fragment(b) && load16(b + kL3 + 4) != ((open.last_id + 1u) & 0xffff)) return false;
  } else if (load32(a + kL3) != load32(b + kL3)) {
    return false;  // traffic class and flow label
  }
  if (!plain.tcp) return true;
  const uint8_t* ta = a + plain.l4;
  const uint8_t* tb = b + plain.l4;
  const uint32_t next = load32(ta + 4) + open.payload_bytes;
  const size_t options = plain.payload - plain.l4 - 20;
  return load32(tb + 4) == next && load32(ta + 8) == load32(tb + 8) && load16(ta + 14) == load16(tb + 14) &&
         load16(ta + 18) == load16(tb + 18) && memcmp(ta + 20, tb + 20, options) == 0;
}

void Coalescer::append(Open* open, const Frame& frame, const Plain& plain) {
  if (!open->pieces) open->pieces = take_pieces();
  open->pieces->at[open->pieces->count++] = {frame.data + plain.payload, plain.payload_bytes};
  ++open->count;
  open->bytes += frame.length;
  open->payload_bytes += plain.payload_bytes;
  open->last_id = static_cast<uint16_t>(load16(frame.data + kL3 + 4));
  open->push = plain.tcp && (tcp_flags(frame.data, plain.l4) & kPsh);
}

void Coalescer::emit(const Frame& frame, const Words& key) {
  Arrival& arrival = arrivals_.emplace_back(Arrival{frame, key, 1, frame.length});
  arrival.frame.vnet.flags &= kNeedsCsum;
}

void Coalescer::emit(size_t at) {
  const Open& open = open_[at];
  if (open.count == 1) {
    emit(open.first, open.key);
  } else {
    Frame whole = open.first;
    const Plain& plain = open.plain;
    const uint32_t l4_bytes = plain.payload - plain.l4 + open.payload_bytes;
    uint8_t* l3 = whole.data + kL3;
    uint8_t* l4 = whole.data + plain.l4;
    whole.length = plain.l4 + l4_bytes;
    whole.linear = open.first.length;
    whole.pieces = open.pieces;
    if (plain.v4) {
      store16(l3 + 2, whole.length - kL3);
      store16(l3 + 10, 0);
      OnesSum sum;
      sum.add(l3, 20);
      store16(l3 + 10, sum.checksum());
    } else {
      store16(l3 + 4, l4_bytes);
    }
    if (plain.tcp) {
      if (open.push) l4[13] |= kPsh;
    } else {
      store16(l4 + 4, l4_bytes);
    }
    const uint16_t offset = plain.tcp ? kTcpCsumOffset : kUdpCsumOffset;
    store16(l4 + offset, pseudo_sum(l3, plain.v4, plain.tcp ? kTcp : kUdp, l4_bytes).folded());
    const uint8_t kind = !plain.tcp ? kGsoUdp : plain.v4 ? kGsoTcp4 : kGsoTcp6;
    whole.vnet = VnetHdr{kNeedsCsum,
                         kind,
                         static_cast<uint16_t>(plain.payload),
                         static_cast<uint16_t>(open.plain.payload_bytes),
                         static_cast<uint16_t>(plain.l4),
                         offset};
    arrivals_.push_back(Arrival{whole, open.key, open.count, open.bytes});
  }
  open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(at));
}

Pieces* Coalescer::take_pieces() {
  if (pieces_used_ == pieces_.size()) pieces_.emplace_back();
  Pieces* pieces = &pieces_[pieces_used_++];
  pieces->count = 0;
  return pieces;
}

}  // namespace weft
