// Opening and closing connections, and their slots. How they are found is in connection_index.cc, and which make room
// for others in connection_room.cc.
#include "connection_table.h"

#include <algorithm>

#include "plausible.h"
#include "populate.h"
#include "slot_index.h"

namespace weft {
namespace {

// How many records one sweep looks at (or a sixteenth of all, if that is more), and how many of them before others get
// the lock.
constexpr uint32_t kSwept = 4096;
constexpr uint32_t kSweptAtOnce = 256;
// How many connections of a port are closed before others get the lock.
constexpr uint32_t kClosedAtOnce = 128;
// Records that get their memory at the same time.
constexpr uint32_t kPrepared = 4096;

}  // namespace

ConnectionTable::ConnectionTable(uint8_t* memory, size_t bytes, const ConnectionLimits& limits, uint64_t seed)
    : header_(reinterpret_cast<ConnectionsHeader*>(memory)),
      records_(reinterpret_cast<Connection*>(memory) + 1),
      count_(static_cast<uint32_t>(std::max<size_t>(bytes / sizeof(Connection), 1) - 1)),
      limits_(limits),
      index_(count_ / kRecordsPerBucket + 1),
      owners_(kOwners) {
  for (uint64_t& secret : secrets_) secret = seed = hash_mix(seed, 0);
}

// Slots

void ConnectionTable::append(List* list, uint32_t slot) {
  records_[slot].next = 0;
  records_[slot].previous = list->last;
  (list->last ? records_[list->last - 1].next : list->first) = slot + 1;
  list->last = slot + 1;
  ++list->size;
}

void ConnectionTable::remove(List* list, uint32_t slot) {
  const uint32_t before = records_[slot].previous, behind = records_[slot].next;
  (before ? records_[before - 1].next : list->first) = behind;
  (behind ? records_[behind - 1].previous : list->last) = before;
  --list->size;
}

// Adds a connection, which is unproven, to those of an owner.
void ConnectionTable::own(uint32_t slot, uint32_t owner) {
  records_[slot].owner = owner;
  records_[slot].proven = 0;
  append(&owners_[owner].unproven, slot);
  resized(owner);
}

void ConnectionTable::disown(uint32_t slot) {
  Owner& owner = owners_[records_[slot].owner];
  if (records_[slot].proven) {
    remove(&owner.proven, slot);
  } else {
    leave_unproven(&owner, slot);
  }
  resized(records_[slot].owner);
}

// Puts the owner of tracked ones into the list of those that have about as many. Each time that their number has doubled, or
// halved, it is another list.
void ConnectionTable::resized(uint32_t number) {
  Owner& owner = owners_[number];
  const uint32_t size_class = number < kFirstFreeOwner ? static_cast<uint32_t>(std::bit_width(owner.size())) : 0;
  if (size_class == owner.size_class) return;
  if (auto& list = by_size_[owner.size_class]; owner.size_class) {
    (owner.previous ? owners_[owner.previous - 1].next : list.first) = owner.next;
    (owner.next ? owners_[owner.next - 1].previous : list.last) = owner.previous;
  }
  owner.size_class = size_class;
  owner.next = 0;
  if (auto& list = by_size_[size_class]; size_class) {
    owner.previous = list.last;
    (list.last ? owners_[list.last - 1].next : list.first) = number + 1;
    list.last = number + 1;
  }
}

// The free slots are a queue, so `previous` is free to hold the epoch in which the slot was freed.
void ConnectionTable::free_slot(uint32_t slot) {
  std::atomic_ref(records_[slot].generation).store(0, std::memory_order_release);
  records_[slot].next = 0;
  records_[slot].previous = static_cast<uint32_t>(epoch_.fetch_add(1) + 1);
  (free_.last ? records_[free_.last - 1].next : free_.first) = slot + 1;
  free_.last = slot + 1;
  ++free_.size;
}

// True if each worker has said, since the slot was freed, that it holds nothing.
bool ConnectionTable::may_take(uint32_t slot) const {
  const uint32_t freed = records_[slot].previous;
  return std::all_of(std::begin(holders_), std::end(holders_), [&](const Holder& holder) {
    const uint64_t seen = holder.seen.load();
    return seen == kIdle || static_cast<int32_t>(static_cast<uint32_t>(seen) - freed) >= 0;
  });
}

// How many slots can be taken now: of those that are free, those that were freed last may be in use.
uint32_t ConnectionTable::takeable() const {
  const auto epoch = static_cast<uint32_t>(epoch_.load());
  uint32_t held = 0;
  for (const Holder& holder : holders_) {
    const uint64_t seen = holder.seen.load(std::memory_order_relaxed);
    if (seen != kIdle) held = std::max(held, epoch - static_cast<uint32_t>(seen));
  }
  return count_ - used_ + free_.size - std::min(free_.size, held);
}

uint32_t ConnectionTable::take_slot() {
  if (free_.size && may_take(free_.first - 1)) {
    const uint32_t slot = free_.first - 1;
    free_.first = records_[slot].next;
    if (--free_.size == 0) free_.last = 0;
    return slot;
  }
  return used_ < count_ && prepare(used_) ? used_++ : kNone;
}

// Allocates memory for the record, so that writing to it cannot fail when a file system is full.
bool ConnectionTable::prepare(uint32_t slot) {
  if (slot < header_->ready) return true;
  const uint32_t ready = std::min(count_, slot + kPrepared);
  // If the kernel has no such call, the file got all of its memory when it was mapped.
  const int error = populate(records_ + slot, (ready - slot) * sizeof(Connection));
  if (error != 0 && error != EINVAL) return false;
  header_->ready = ready;
  return true;
}

// Opening and closing

ConnectionTable::Found ConnectionTable::open(const TupleKey& key, uint32_t replies_place, uint32_t owner, double now_ms,
                                             bool begins, const Treatment& treatment) {
  std::lock_guard guard(mutex_);
  const Found known = probe(key, hash(key));
  const bool is_anew = known && begins && !known.reply && relaxed_load(known.at->half(true).packets);
  if (known) {
    if (!is_tracked(known.slot)) return {};
    if (!begins || (!known.reply && !is_anew)) return known;
    if (known.reply && !is_over(*known.at)) return {};
  }
  if (takeable() < (count_ - std::min(limits_.connections, count_)) / 2) return {};
  look_on(&owners_[owner]);
  const bool has_room = is_anew && known.at->owner == owner;
  const uint32_t found = has_room ? kFree : room(&owner, 1, limits_.quota, limits_.unproven_quota, Of::tracked, now_ms);
  if (found == kNone) return {};
  const ConnectionOpening opening = {{key.place, replies_place}, static_cast<uint8_t>(key.protocol),
                                     ConnectionKind::tracked, {}, key.tuple, key.tuple, 0, {}, 0, treatment};
  const uint32_t also = known.slot == found ? kNone : known.slot;
  const uint32_t slot = put(opening, owner, now_ms, {given_up(found), given_up(also)});
  if (slot == kNone) return {};
  return {&records_[slot], slot, records_[slot].generation, false};
}

uint32_t ConnectionTable::open(const ConnectionOpening& opening, uint32_t owner, double now_ms,
                               const GivenUp (&given_up)[2]) {
  std::lock_guard guard(mutex_);
  return put(opening, owner, now_ms, given_up);
}

uint32_t ConnectionTable::put(const ConnectionOpening& opening, uint32_t owner, double now_ms,
                              const GivenUp (&given_up)[2]) {
  const uint32_t slot = take_slot();
  if (slot == kNone) return kNone;
  for (const GivenUp& other : given_up) {
    if (is_there(other)) prefetch_all(opening_of(records_[other.slot]));
  }
  prefetch_all(opening);
  for (const GivenUp& other : given_up) {
    if (is_there(other)) close_held(other.slot);
  }
  if (size() >= limits_.connections || is_known(opening)) {
    free_slot(slot);
    return kNone;
  }
  Connection& record = records_[slot];
  generation_ = generation_ % 0x7fff'ffff + 1;
  std::atomic_ref(record.generation).store(generation_ * 2 - 1, std::memory_order_relaxed);
  memset(reinterpret_cast<uint8_t*>(&record) + sizeof record.generation, 0, sizeof record - sizeof record.generation);
  record.protocol = opening.protocol;
  record.kind = opening.kind;
  memcpy(record.places, opening.places, sizeof record.places);
  record.original = opening.original;
  record.translated = opening.translated;
  record.pin = opening.pin;
  record.table = opening.table;
  memcpy(record.via, opening.via, sizeof record.via);
  record.half(0).last_seen_ms = now_ms;
  record.half(0).treatment = opening.treatment;
  record.half(0).port = opening.port;
  std::atomic_ref(record.generation).store(generation_ * 2, std::memory_order_release);
  own(slot, owner);
  size_.store(size() + 1, std::memory_order_relaxed);
  count_kind(record, 1);
  count_balanced(record, 1);
  insert_all(opening, slot);
  opened_.store(opened() + 1, std::memory_order_relaxed);
  return slot;
}

void ConnectionTable::close(uint32_t slot, uint32_t generation) {
  std::lock_guard guard(mutex_);
  if (slot >= used_ || !is_used(slot)) return;
  if (generation == 0 || records_[slot].generation == generation) close_held(slot);
}

// Under the lock, since workers may close it: another connection in its slot must not get the flow.
void ConnectionTable::set_flow(uint32_t slot, uint32_t generation, bool reply, uint32_t flow) {
  std::lock_guard guard(mutex_);
  if (slot >= used_ || generation == 0 || records_[slot].generation != generation) return;
  relaxed_store(records_[slot].half(reply).flow, flow);
}

void ConnectionTable::end(uint32_t slot, double now_ms, uint32_t generation, uint8_t verdict) {
  std::lock_guard guard(mutex_);
  if (slot >= used_ || !is_used(slot)) return;
  if (generation != 0 && records_[slot].generation != generation) return;
  Connection& connection = records_[slot];
  const bool was_found = is_found(opening_of(connection), kOriginal);
  count_balanced(connection, -1);
  relaxed_store(connection.table, 0u);
  count_kind(connection, -1);
  connection.verdict = verdict;
  relaxed_store(connection.kind, ConnectionKind::ended);
  count_kind(connection, 1);
  if (was_found && !is_found(opening_of(connection), kOriginal)) erase(name(slot * 4), slot * 4);
  for (const bool reply : {false, true}) relaxed_store(connection.half(reply).flow, 0u);
  relaxed_store(connection.half(false).last_seen_ms, now_ms);
}

// Under the lock, as above.
void ConnectionTable::note_told(uint32_t slot, uint32_t generation) {
  std::lock_guard guard(mutex_);
  if (slot >= used_ || generation == 0 || records_[slot].generation != generation) return;
  if (kind_of(records_[slot]) != ConnectionKind::ended) return;
  uint32_t& seen = records_[slot].half(true).seen;
  relaxed_store(seen, relaxed_load(seen) | kSeenRst);
}

// Threads load the counts without the lock.
void ConnectionTable::count_kind(const Connection& connection, int by) {
  if (connection.kind == ConnectionKind::translated) return;
  std::atomic<size_t>& count = connection.kind == ConnectionKind::tracked ? tracked_ : ended_;
  count.store(count.load(std::memory_order_relaxed) + static_cast<size_t>(by), std::memory_order_relaxed);
}

void ConnectionTable::close_held(uint32_t slot) {
  const ConnectionOpening of = opening_of(records_[slot]);
  for (const Name which : {kOriginal, kReply, kTaken}) {
    if (is_found(of, which)) erase(name(of, which), slot * 4 + which);
  }
  disown(slot);
  size_.store(size() - 1, std::memory_order_relaxed);
  count_kind(records_[slot], -1);
  count_balanced(records_[slot], -1);
  free_slot(slot);
}

// In steps, so that others get the lock. Later ones are those of another port that has the number by now: of the proven ones,
// which are in no order, they are looked at last from now on.
uint32_t ConnectionTable::close_owned(uint32_t owner, uint32_t limit, uint32_t until) {
  Owner& of = owners_[owner];
  const auto is_later = [&](uint32_t at) { return static_cast<int32_t>(records_[at - 1].generation - until) > 0; };
  for (uint32_t closed = 0, passed = 0;;) {
    std::lock_guard guard(mutex_);
    for (uint32_t n = 0; n < kClosedAtOnce; ++n) {
      if (closed == limit) return closed;
      const bool is_proven = passed < of.proven.size;
      const uint32_t at = is_proven ? of.proven.first : of.unproven.first;
      if (at && !is_later(at)) {
        close_held(at - 1);
        passed = 0;
        ++closed;
      } else if (is_proven) {
        remove(&of.proven, at - 1);
        append(&of.proven, at - 1);
        ++passed;
      } else {
        return closed;
      }
    }
  }
}

// Time

std::vector<uint32_t> ConnectionTable::expire(double now_ms) {
  std::vector<uint32_t> due;
  std::unique_lock lock(mutex_);
  const uint32_t count = std::min(std::max(kSwept, used_ / 16), used_);
  for (uint32_t n = 0; n < count; ++n) {
    if (n % kSweptAtOnce == kSweptAtOnce - 1) {
      lock.unlock();
      lock.lock();
    }
    swept_ = (swept_ + 1) % used_;
    Connection& connection = records_[swept_];
    if (!is_used(swept_) || now_ms < last_seen_ms(connection) + timeout_ms(connection)) continue;
    if (is_of_workers(swept_)) {
      close_held(swept_);
    } else {
      due.push_back(swept_);
    }
  }
  return due;
}

// After a crash. Timeouts start again, since the clock may be a different one, and no flow is known any more. If there is less
// room than before, the translated ones come first.
std::vector<uint32_t> ConnectionTable::recover(double now_ms) {
  std::lock_guard guard(mutex_);
  std::vector<uint32_t> translated;
  const uint32_t ready = std::min(header_->ready, count_);
  const auto is_translated = [](Connection& record) {
    return record.generation != 0 && kind_of(record) != ConnectionKind::tracked;
  };
  size_t others = static_cast<size_t>(std::count_if(records_, records_ + ready, is_translated));
  for (uint32_t slot = 0; slot < ready; ++slot) {
    Connection& record = records_[slot];
    if (record.generation == 0) continue;
    if (is_translated(record)) --others;
    const size_t come_first = is_translated(record) ? 0 : others;
    const ConnectionOpening opening = opening_of(record);
    const bool is_whole = record.generation % 2 == 0 && is_plausible(opening) && record.owner < kOwners;
    if (!is_whole || size() + come_first >= limits_.connections || is_known(opening)) {
      record.generation = 0;
      continue;
    }
    for (uint32_t free = used_; free < slot; ++free) free_slot(free);
    used_ = slot + 1;
    generation_ = std::max(generation_, record.generation / 2);
    for (const bool reply : {false, true}) {
      ConnectionHalf& half = record.half(reply);
      half.last_seen_ms = now_ms;
      half.flow = half.flow_slot = 0;
    }
    record.table = 0;
    insert_all(opening, slot);
    size_.store(size() + 1, std::memory_order_relaxed);
    count_kind(record, 1);
    if (is_tracked(slot)) {
      own(slot, record.owner);
    } else {
      translated.push_back(slot);
    }
  }
  return translated;
}

void ConnectionTable::adopt(uint32_t slot, uint32_t owner) {
  std::lock_guard guard(mutex_);
  own(slot, owner);
}

}  // namespace weft
