#include "fragment_tracker.h"

namespace weft {

// Coverage

void Coverage::add(uint32_t from, uint32_t to) {
  begins_.words[from / 64] |= uint64_t{1} << from % 64;
  while (from < to) {
    const uint32_t count = std::min(64 - from % 64, to - from);
    came_.words[from / 64] |= UINT64_MAX >> (64 - count) << from % 64;
    from += count;
  }
}

bool Coverage::overlaps(uint32_t from, uint32_t to) const {
  while (from < to) {
    const uint32_t count = std::min(64 - from % 64, to - from);
    if (came_.words[from / 64] & UINT64_MAX >> (64 - count) << from % 64) return true;
    from += count;
  }
  return false;
}

bool Coverage::has(uint32_t from, uint32_t to) const {
  if (!begins_[from]) return false;
  for (uint32_t unit = from + 1; unit < to; ++unit) {
    if (!came_[unit] || begins_[unit]) return false;
  }
  return to == kUnits || !came_[to] || begins_[to];
}

// The tracker

FragmentTracker::Tracked FragmentTracker::track(uint16_t port, Key* key, const Frame& frame, double now_ms) {
  const FragmentPart part = fragment_part(frame.data, *key);
  const Identity identity = identity_of(*key, part);
  uint64_t words[sizeof identity / 8];
  memcpy(words, &identity, sizeof identity);
  uint64_t mixed = seed_;
  for (uint64_t word : words) mixed = hash_mix(mixed, word);
  const auto hash = static_cast<uint32_t>(mixed);

  size_t gave_way = 0;
  uint32_t slot = find(identity, hash);
  if (slot == kNone) {
    Share& share = shares_[port];
    if (share.datagrams == kDatagramsPerPort) gave_way = remove(share.oldest);
    slot = open(port, identity, hash, now_ms);
  }
  Tracked tracked = add(slot, part, key, frame);
  tracked.gave_way += gave_way;
  return tracked;
}

FragmentTracker::Tracked FragmentTracker::add(uint32_t slot, const FragmentPart& part, Key* key, const Frame& frame) {
  Datagram& datagram = slots_[slot];
  if (datagram.is_discarded) return {.refused = Reason::fragment_overlap};
  const uint32_t end = part.at + part.bytes;
  const uint32_t total = datagram.total;
  const uint32_t from = part.at / 8, to = (end + 7) / 8;
  const bool contradicts = part.more ? total && end >= total : total ? end != total : end <= datagram.end;
  if (!contradicts && datagram.coverage.has(from, to)) return {.refused = Reason::fragment_duplicate};
  if (contradicts || datagram.coverage.overlaps(from, to)) {
    datagram.is_discarded = true;
    return {.refused = Reason::fragment_overlap, .with_it = take_waiting(&datagram).size()};
  }

  Tracked tracked;
  const bool first = part.at == 0;
  tracked.waits = !first && !datagram.has_first;
  if (tracked.waits) {
    const bool full = datagram.waiting.size() == kWaitingPerDatagram;
    Share& share = shares_.at(datagram.port);
    if (full || !make_room(&share, slot, frame.length, &tracked.gave_way)) {
      return {.refused = Reason::fragment_limit, .gave_way = tracked.gave_way};
    }
    datagram.waiting.push_back({*key, ParkedFrame(frame)});
    share.bytes += frame.length;
    ++held_;
  }
  datagram.coverage.add(from, to);
  datagram.bytes += part.bytes;
  datagram.end = std::max(datagram.end, end);
  if (!part.more) datagram.total = end;
  if (first) {
    datagram.has_first = true;
    datagram.first = Upper::of(*key);
    released_ = take_waiting(&datagram);
    for (WaitingFragment& one : released_) datagram.first.give(&one.key);
  } else if (datagram.has_first) {
    datagram.first.give(key);
  }
  if (datagram.bytes == datagram.total) remove(slot);
  return tracked;
}

FragmentTracker::Identity FragmentTracker::identity_of(const Key& key, const FragmentPart& part) {
  Identity identity = {};
  memcpy(identity.in_port, key.in_port, sizeof identity.in_port);
  memcpy(identity.tun_vni, key.tun_vni, sizeof identity.tun_vni);
  memcpy(identity.tun_src, key.tun_src, sizeof identity.tun_src);
  memcpy(identity.addresses, key.ip_src, sizeof identity.addresses);
  store32(identity.id, part.id);
  const bool v4 = load16(key.eth_type) == 0x0800;
  identity.version = v4 ? 4 : 6;
  if (v4) identity.protocol = key.ip_proto;
  return identity;
}

uint32_t FragmentTracker::find(const Identity& identity, uint32_t hash) const {
  return by_identity_.find(
      hash, [&](uint32_t slot) { return memcmp(&slots_[slot].identity, &identity, sizeof identity) == 0; });
}

uint32_t FragmentTracker::open(uint16_t port, const Identity& identity, uint32_t hash, double now_ms) {
  uint32_t slot;
  if (free_.empty()) {
    slot = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  Share& share = shares_[port];
  Datagram& datagram = slots_[slot];
  datagram.identity = identity;
  datagram.hash = hash;
  datagram.older = share.newest;
  datagram.newer = kNone;
  datagram.port = port;
  datagram.due_ms = now_ms + kFragmentTimeoutMs;
  datagram.has_first = datagram.is_discarded = false;
  datagram.bytes = datagram.end = datagram.total = 0;
  datagram.coverage.clear();
  (share.newest == kNone ? share.oldest : slots_[share.newest].newer) = slot;
  share.newest = slot;
  ++share.datagrams;
  by_identity_.insert(hash, slot);
  due_ms_ = std::min(due_ms_, datagram.due_ms);
  return slot;
}

// Makes room for `bytes` bytes of waiting fragments of the datagram `keep`, which must stay.
bool FragmentTracker::make_room(Share* share, uint32_t keep, size_t bytes, size_t* gave_way) {
  while (share->bytes + bytes > kWaitingBytesPerPort) {
    if (share->oldest == keep) return false;
    *gave_way += remove(share->oldest);
  }
  return true;
}

std::vector<WaitingFragment> FragmentTracker::take_waiting(Datagram* datagram) {
  std::vector<WaitingFragment> waiting = std::exchange(datagram->waiting, {});
  Share& share = shares_.at(datagram->port);
  for (const WaitingFragment& one : waiting) share.bytes -= one.frame.length;
  held_ -= waiting.size();
  return waiting;
}

// Forgets a datagram. Returns the number of fragments that waited.
size_t FragmentTracker::remove(uint32_t slot) {
  Datagram& datagram = slots_[slot];
  const size_t frames = take_waiting(&datagram).size();
  Share& share = shares_.at(datagram.port);
  (datagram.older == kNone ? share.oldest : slots_[datagram.older].newer) = datagram.newer;
  (datagram.newer == kNone ? share.newest : slots_[datagram.newer].older) = datagram.older;
  --share.datagrams;
  by_identity_.erase(datagram.hash, slot);
  free_.push_back(slot);
  return frames;
}

size_t FragmentTracker::drop_port(uint16_t port) {
  const auto share = shares_.find(port);
  if (share == shares_.end()) return 0;
  size_t frames = 0;
  while (share->second.oldest != kNone) frames += remove(share->second.oldest);
  shares_.erase(share);
  return frames;
}

}  // namespace weft
