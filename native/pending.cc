#include "pending.h"

#include <algorithm>
#include <utility>

#include "offload.h"

namespace weft {

ParkedFrame::ParkedFrame(const Frame& from, uint64_t marks)
    : storage(std::make_unique_for_overwrite<uint8_t[]>(from.length)), length(from.length), vnet(from.vnet), marks(marks) {
  from.copy(storage.get(), length);
}

uint32_t PendingTable::hash(const Words& flow) const {
  uint64_t hash = seed_;
  for (uint64_t word : flow.at) hash = hash_mix(hash, word);
  return static_cast<uint32_t>(hash);
}

uint32_t PendingTable::find(const Words& key) const {
  if (by_flow_.size() == 0) return kNone;
  const Words flow = key.flow();
  return by_flow_.find(hash(flow), [&](uint32_t slot) { return slots_[slot].key.flow() == flow; });
}

Reason PendingTable::park(uint32_t handle, const Words& key, const Frame& frame) {
  Pending& pending = slots_[handle];
  const size_t most = key.is_fragment() ? kParkedFragments : kParkedPerFlow;
  if (pending.frames.size() == most) return Reason::upcall_parked_full;
  return hold(&pending, &shares_[pending.port], key, frame);
}

Reason PendingTable::open(uint16_t port, const Key& key, const Frame& frame, bool is_balanced) {
  Share& share = shares_[port];
  const bool slots_full = free_.empty() && slots_.size() == size_t{1} << kSlotBits;
  if (share.pendings == kPendingPerPort || slots_full || share.bytes + frame.length > kParkedBytesPerPort) {
    return Reason::upcall_queue_full;
  }
  if (is_balanced && share.balanced == kPendingBalancedPerPort) return Reason::upcall_queue_full;
  uint32_t slot;
  if (free_.empty()) {
    slot = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  Pending& pending = slots_[slot];
  const Words words = Words::of(key);
  pending.key = words;
  pending.port = port;
  pending.used = true;
  pending.balanced = is_balanced;
  pending.hash = hash(words.flow());
  by_flow_.insert(pending.hash, slot);
  ++share.pendings;
  share.balanced += is_balanced;
  hold(&pending, &share, words, frame);

  UpcallRecord& upcall = (key.eth_dst[0] & 1 ? group_ : single_).add(port);
  upcall.token = static_cast<double>(token_of(slot));
  upcall.length = frame.length;
  upcall.head_length = static_cast<uint16_t>(std::min<size_t>(frame.length, kHeadBytes));
  upcall.packet_bytes = static_cast<uint16_t>(std::min<uint32_t>(packet_bytes(frame), 0xffff));
  upcall.key = key;
  frame.copy(upcall.head, upcall.head_length);
  return kNoDrop;
}

Reason PendingTable::hold(Pending* pending, Share* share, const Words& key, const Frame& frame) {
  if (share->bytes + frame.length > kParkedBytesPerPort) return Reason::upcall_queue_full;
  share->bytes += frame.length;
  pending->frames.emplace_back(frame, key.at[kMarksWord]);
  ++held_;
  return kNoDrop;
}

size_t PendingTable::take_upcalls(UpcallRecord* to, size_t max, bool groups) {
  size_t taken = 0;
  for (; taken < max && upcalls_wait(groups); ++taken) {
    const bool group = single_.turns.empty() || (groups && taken % 2 == 1 && !group_.turns.empty());
    (group ? group_ : single_).take(to + taken);
  }
  return taken;
}

UpcallRecord& PendingTable::Queue::add(uint16_t port) {
  std::deque<UpcallRecord>& queue = upcalls[port];
  if (queue.empty()) turns.push_back(port);
  return queue.emplace_back();
}

void PendingTable::Queue::take(UpcallRecord* to) {
  const uint16_t port = turns.front();
  turns.pop_front();
  std::deque<UpcallRecord>& queue = upcalls.at(port);
  *to = queue.front();
  queue.pop_front();
  if (queue.empty()) {
    upcalls.erase(port);
  } else {
    turns.push_back(port);
  }
}

void PendingTable::Queue::drop(uint16_t port) {
  upcalls.erase(port);
  std::erase(turns, port);
}

Token PendingTable::token_of(uint32_t slot) const {
  return Token{worker_} << (kGenerationBits + kSlotBits) | Token{slots_[slot].generation} << kSlotBits | slot;
}

PendingTable::Released PendingTable::release(Token token) {
  const auto slot = static_cast<uint32_t>(token & ((1u << kSlotBits) - 1));
  if (slot >= slots_.size() || !slots_[slot].used || token != token_of(slot)) return {};
  return take(slot);
}

PendingTable::Released PendingTable::take(uint32_t slot) {
  Pending& pending = slots_[slot];
  Released released = {pending.key, pending.port, 0, std::exchange(pending.frames, {})};
  const auto differs = [&](const ParkedFrame& frame) { return frame.marks != pending.key.at[kMarksWord]; };
  const auto rest = std::find_if(released.frames.begin(), released.frames.end(), differs);
  released.decided = static_cast<size_t>(rest - released.frames.begin());
  Share& share = shares_[pending.port];
  for (const ParkedFrame& frame : released.frames) share.bytes -= frame.length;
  --share.pendings;
  share.balanced -= pending.balanced;
  held_ -= released.frames.size();
  by_flow_.erase(pending.hash, slot);
  pending.used = false;
  pending.generation = (pending.generation + 1) & kGenerationMask;
  free_.push_back(slot);
  return released;
}

size_t PendingTable::drop_port(uint16_t port) {
  size_t frames = 0;
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].used && slots_[slot].port == port) frames += take(slot).frames.size();
  }
  shares_.erase(port);
  single_.drop(port);
  group_.drop(port);
  return frames;
}

}  // namespace weft
