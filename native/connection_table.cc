#include "connection_table.h"

#include <algorithm>

#include "plausible.h"
#include "populate.h"
#include "slot_index.h"

namespace weft {
namespace {

// How many connections are looked at, at most, to find one to give up: unproven ones, each of which is looked at only
// once; proven ones; and those of all owners. The next search goes on where this one ends, so what is over is found after
// some searches, however many others there are.
constexpr uint32_t kUnprovenLooked = 256;
constexpr uint32_t kProvenLooked = 32;
constexpr uint32_t kAllLooked = 32;
// How many of all owners, if what is wanted is a tracked one and there may be few.
constexpr uint32_t kTrackedLooked = 256;
// How long a tracked connection that found nothing to give up keeps others from searching in vain.
constexpr double kSearchAgainMs = 1;
// How many unproven ones are looked at before each new connection, so that they are seen in use before there are too
// many.
constexpr uint32_t kLookedOn = 8;
// How many records one sweep looks at (or a sixteenth of all, if that is more), and how many of them before others get
// the lock.
constexpr uint32_t kSwept = 4096;
constexpr uint32_t kSweptAtOnce = 256;
// Records that get their memory at the same time.
constexpr uint32_t kPrepared = 4096;
// How often a search that finds nothing is repeated because entries were moved in the meantime.
constexpr int kSearches = 64;

// As far as it decides under which names it is found.
ConnectionOpening opening_of(const Connection& connection) {
  ConnectionOpening of = {{connection.places[0], connection.places[1]},
                          connection.protocol,
                          connection.kind,
                          {},
                          connection.original,
                          connection.translated,
                          connection.pin,
                          {},
                          0};
  memcpy(of.via, connection.via, sizeof of.via);
  return of;
}

bool is_network(uint32_t place) { return place != kOutside && place != kInternal; }

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

// Finding

// Those of a bucket with this tag. The test for zero bytes is exact: no carry crosses a byte.
ConnectionTable::Entries ConnectionTable::entries_of(size_t at, uint8_t tag) const {
  constexpr uint64_t kEach = 0x01010101'01010101u, kLow = 0x7f * kEach;
  const auto same = [&](uint64_t& tags) {
    const uint64_t difference = std::atomic_ref(tags).load(std::memory_order_acquire) ^ tag * kEach;
    return ~(((difference & kLow) + kLow) | difference | kLow);
  };
  return {same(index_[at].tags[0]) | same(index_[at].tags[1]) >> 1};
}

ConnectionTable::Found ConnectionTable::found_at(uint32_t handle, const TupleKey& key) const {
  const uint32_t slot = handle >> 2;
  const bool reply = handle & kReply;
  Connection& connection = records_[slot];
  const uint32_t generation = std::atomic_ref(connection.generation).load(std::memory_order_acquire);
  if (generation == 0 || connection.protocol != key.protocol || connection.places[reply] != key.place) return {};
  const bool is_same = reply ? memcmp(connection.translated.source, key.tuple.destination, 16) == 0 &&
                                   memcmp(connection.translated.destination, key.tuple.source, 16) == 0 &&
                                   memcmp(connection.translated.source_port, key.tuple.destination_port, 2) == 0 &&
                                   memcmp(connection.translated.destination_port, key.tuple.source_port, 2) == 0
                             : memcmp(&connection.original, &key.tuple, sizeof key.tuple) == 0;
  if (!is_same) return {};
  return {&connection, slot, generation, reply};
}

bool ConnectionTable::is_taken_at(uint32_t handle, const TupleKey& key) const {
  const Connection& connection = records_[handle >> 2];
  return std::atomic_ref(records_[handle >> 2].generation).load(std::memory_order_acquire) != 0 &&
         connection.protocol == key.protocol && connection.places[0] == key.place &&
         memcmp(&connection.translated, &key.tuple, sizeof key.tuple) == 0;
}

ConnectionTable::Found ConnectionTable::probe(const TupleKey& key, uint32_t hash) const {
  Found none;
  for (size_t at = home(hash);; at = next(at)) {
    for (Entries likely = entries_of(at, tag_of(hash)); likely; likely.drop_first()) {
      const uint32_t handle = handle_at(at, likely.first());
      if ((handle & 3) == kTaken) {
        none.taken |= is_taken_at(handle, key);
      } else if (const Found found = found_at(handle, key)) {
        return found;
      }
    }
    if (free_entries(at)) return none;
  }
}

ConnectionTable::Found ConnectionTable::find(const TupleKey& key, uint32_t hash) const {
  for (int searches = 0; searches < kSearches; ++searches) {
    const uint32_t version = version_.load(std::memory_order_acquire);
    const Found found = probe(key, hash);
    if (found) return found;
    if (version % 2 == 0 && version_.load(std::memory_order_relaxed) == version) return found;
  }
  std::lock_guard guard(mutex_);
  return probe(key, hash);
}

void ConnectionTable::prefetch_record(uint32_t hash) const {
  const Entries likely = entries_of(home(hash), tag_of(hash));
  if (!likely) return;
  const uint32_t handle = handle_at(home(hash), likely.first());
  const Connection& connection = records_[handle >> 2];
  __builtin_prefetch(&connection);
  if ((handle & 3) != kOriginal) __builtin_prefetch(&connection.translated);
  __builtin_prefetch(&connection.half(handle & kReply), 1);
}

uint32_t ConnectionTable::find_handle(const TupleKey& key, uint32_t* generation) const {
  std::lock_guard guard(mutex_);
  const Found found = probe(key, hash(key));
  if (generation) *generation = found.generation;
  return found ? found.slot * 2 + found.reply : kNone;
}

bool ConnectionTable::is_taken(const TupleKey& key) const {
  std::lock_guard guard(mutex_);
  return probe(key, hash(key)).taken;
}

void ConnectionTable::insert(const TupleKey& key, uint32_t handle) {
  const uint32_t hash = this->hash(key);
  size_t at = home(hash);
  while (!free_entries(at)) at = next(at);
  set_entry(at, free_entries(at).first(), tag_of(hash), handle);
  in_place_[key.place % kPlaceCounts].fetch_add(1, std::memory_order_relaxed);
}

// A reader of an entry that is moved sees that the version is odd or has changed.
void ConnectionTable::erase(const TupleKey& key, uint32_t handle) {
  const uint32_t version = version_.load(std::memory_order_relaxed);
  version_.store(version + 1, std::memory_order_relaxed);
  const uint32_t hash = this->hash(key);
  size_t at = home(hash);
  Entries likely = entries_of(at, tag_of(hash));
  while (!likely || handle_at(at, likely.first()) != handle) {
    if (likely) likely.drop_first();
    if (!likely) likely = entries_of(at = next(at), tag_of(hash));
  }
  free_entry(at, likely.first());
  in_place_[key.place % kPlaceCounts].fetch_sub(1, std::memory_order_relaxed);
  version_.store(version + 2, std::memory_order_release);
}

// The handle comes first: a reader of the tag finds it.
void ConnectionTable::set_entry(size_t at, unsigned entry, uint8_t tag, uint32_t handle) {
  Bucket& bucket = index_[at];
  std::atomic_ref(bucket.handles[entry]).store(handle, std::memory_order_release);
  uint64_t& tags = bucket.tags[entry >> 3];
  const unsigned shift = (entry & 7) * 8;
  std::atomic_ref(tags).store((tags & ~(uint64_t{0xff} << shift)) | uint64_t{tag} << shift, std::memory_order_release);
}

// Searches go past a bucket only if it is full. So when an entry of a full bucket goes, one from behind that was found
// that way takes its place, if there is one.
void ConnectionTable::free_entry(size_t at, unsigned entry) {
  while (!free_entries(at) && move_back_to(at, entry, &at, &entry)) {
  }
  set_entry(at, entry, 0, 0);
}

// Copies an entry whose search goes past bucket `at` to `entry` of it. Sets where it was; false if there is none.
bool ConnectionTable::move_back_to(size_t at, unsigned entry, size_t* from, unsigned* moved) {
  for (size_t behind = next(at);; behind = next(behind)) {
    for (unsigned i = 0; i < kEntries; ++i) {
      const auto tag = static_cast<uint8_t>(index_[behind].tags[i >> 3] >> (i & 7) * 8);
      const uint32_t handle = index_[behind].handles[i];
      if (tag == 0 || distance(home(hash(name(handle))), behind) < distance(at, behind)) continue;
      set_entry(at, entry, tag, handle);
      *from = behind;
      *moved = i;
      return true;
    }
    if (free_entries(behind)) return false;
  }
}

TupleKey ConnectionTable::name(uint32_t handle) const {
  return name(opening_of(records_[handle >> 2]), static_cast<Name>(handle & 3));
}

TupleKey ConnectionTable::name(const ConnectionOpening& of, Name which) {
  if (which == kReply) return {turned(of.translated), of.places[1], of.protocol};
  return {which == kTaken ? of.translated : of.original, of.places[0], of.protocol};
}

// Of UDP that weft has ended, only replies are found. A conversation of an end with itself has one name: all its packets are
// of the original direction. Only what goes from a network to a network can be confused with what its client sends there.
bool ConnectionTable::is_found(const ConnectionOpening& of, Name which) {
  constexpr uint8_t kUdp = 17;
  constexpr uint8_t kNobody[16] = {};
  if (which == kOriginal) return of.kind != ConnectionKind::ended || of.protocol != kUdp;
  if (which == kTaken) {
    // One that was only tracked when it was ended goes on with the tuple by which it is found.
    return of.kind != ConnectionKind::tracked && is_network(of.places[0]) && is_network(of.places[1]) &&
           memcmp(of.via, kNobody, sizeof kNobody) == 0 &&
           memcmp(&of.original, &of.translated, sizeof of.original) != 0;
  }
  const TupleKey original = name(of, kOriginal), replies = name(of, kReply);
  return memcmp(&original, &replies, sizeof original) != 0;
}

bool ConnectionTable::is_known(const ConnectionOpening& of) const {
  const auto is_one = [&](Name which) { return is_found(of, which) && probe(name(of, which), hash(name(of, which))); };
  return is_one(kOriginal) || is_one(kReply);
}

// Prefetches the places where its entries are, or will be: they are far from each other.
void ConnectionTable::prefetch_all(const ConnectionOpening& of) const {
  for (const Name which : {kOriginal, kReply, kTaken}) {
    if (is_found(of, which)) prefetch(hash(name(of, which)));
  }
}

void ConnectionTable::insert_all(const ConnectionOpening& of, uint32_t slot) {
  for (const Name which : {kOriginal, kReply, kTaken}) {
    if (is_found(of, which)) insert(name(of, which), slot * 4 + which);
  }
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
                                             bool begins, uint32_t shares) {
  std::lock_guard guard(mutex_);
  const Found known = probe(key, hash(key));
  const bool is_anew = known && begins && !known.reply && relaxed_load(known.at->half(true).packets);
  if (known) {
    if (!is_tracked(known.slot)) return {};
    if (!begins || (!known.reply && !is_anew)) return known;
    if (known.reply && !is_over(*known.at)) return {};
  }
  look_on(&owners_[owner]);
  const uint32_t quota = limits_.quota * shares, unproven_quota = limits_.unproven_quota * shares;
  const uint32_t found = is_anew ? kFree : room(&owner, 1, quota, unproven_quota, Of::tracked, now_ms);
  if (found == kNone) return {};
  const ConnectionOpening opening = {{key.place, replies_place}, static_cast<uint8_t>(key.protocol),
                                     ConnectionKind::tracked, {}, key.tuple, key.tuple, 0, {}, 0};
  const uint32_t also = known.slot == found ? kNone : known.slot;
  const uint32_t slot = put(opening, owner, now_ms, {found == kFree ? kNone : found, also});
  if (slot == kNone) return {};
  return {&records_[slot], slot, records_[slot].generation, false};
}

uint32_t ConnectionTable::open(const ConnectionOpening& opening, uint32_t owner, double now_ms,
                               const uint32_t (&given_up)[2]) {
  std::lock_guard guard(mutex_);
  return put(opening, owner, now_ms, given_up);
}

uint32_t ConnectionTable::put(const ConnectionOpening& opening, uint32_t owner, double now_ms,
                              const uint32_t (&given_up)[2]) {
  const uint32_t slot = take_slot();
  if (slot == kNone) return kNone;
  for (const uint32_t other : given_up) {
    if (other != kNone && is_used(other)) prefetch_all(opening_of(records_[other]));
  }
  prefetch_all(opening);
  for (const uint32_t other : given_up) {
    if (other != kNone && is_used(other)) close_held(other);
  }
  if (is_known(opening)) {
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
  record.owner = owner;
  record.half(0).last_seen_ms = now_ms;
  std::atomic_ref(record.generation).store(generation_ * 2, std::memory_order_release);
  append(&owners_[owner].unproven, slot);
  size_.store(size() + 1, std::memory_order_relaxed);
  if (is_tracked(slot)) tracked_.store(tracked() + 1, std::memory_order_relaxed);
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

void ConnectionTable::end(uint32_t slot, double now_ms) {
  std::lock_guard guard(mutex_);
  if (slot >= used_ || !is_used(slot)) return;
  Connection& connection = records_[slot];
  const bool was_found = is_found(opening_of(connection), kOriginal);
  count_balanced(connection, -1);
  connection.table = 0;
  if (is_tracked(slot)) tracked_.store(tracked() - 1, std::memory_order_relaxed);
  relaxed_store(connection.kind, ConnectionKind::ended);
  if (was_found && !is_found(opening_of(connection), kOriginal)) erase(name(slot * 4), slot * 4);
  for (const bool reply : {false, true}) relaxed_store(connection.half(reply).flow, 0u);
  relaxed_store(connection.half(false).last_seen_ms, now_ms);
}

void ConnectionTable::close_held(uint32_t slot) {
  const ConnectionOpening of = opening_of(records_[slot]);
  for (const Name which : {kOriginal, kReply, kTaken}) {
    if (is_found(of, which)) erase(name(of, which), slot * 4 + which);
  }
  Owner& owner = owners_[records_[slot].owner];
  if (records_[slot].proven) {
    remove(&owner.proven, slot);
  } else {
    leave_unproven(&owner, slot);
  }
  size_.store(size() - 1, std::memory_order_relaxed);
  if (is_tracked(slot)) tracked_.store(tracked() - 1, std::memory_order_relaxed);
  count_balanced(records_[slot], -1);
  free_slot(slot);
}

// Room

uint32_t ConnectionTable::room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota) {
  std::lock_guard guard(mutex_);
  for (size_t i = 0; i < count; ++i) look_on(&owners_[owners[i]]);
  return room(owners, count, quota, unproven_quota, Of::any, 0);
}

uint32_t ConnectionTable::room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota,
                               Of whose, double now_ms) {
  const auto may_go = [&](uint32_t slot) { return slot != kNone && may_take_place(whose, slot) ? slot : kNone; };
  size_t unproven = 0, all = 0;
  for (size_t i = 0; i < count; ++i) {
    const Owner& owner = owners_[owners[i]];
    unproven += owner.unproven.size;
    all += owner.unproven.size + owner.proven.size;
  }
  if (unproven >= unproven_quota) {
    const uint32_t slot = oldest(owners, count, [&](Owner* owner) { return find_unproven(owner); });
    if (slot != kNone) return may_go(slot);
  }
  if (all >= quota) {
    return may_go(oldest(owners, count, [&](Owner* owner) { return find_expendable(owner, whose, now_ms); }));
  }
  return size() < limits_.connections ? kFree : find_of_all(whose, now_ms);
}

template <typename FindOne>
uint32_t ConnectionTable::oldest(const uint32_t* owners, size_t count, FindOne find_one) {
  uint32_t oldest = kNone;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t slot = find_one(&owners_[owners[i]]);
    if (slot == kNone) continue;
    if (oldest == kNone || records_[slot].generation < records_[oldest].generation) oldest = slot;
  }
  return oldest;
}

// The next call looks at other connections.
void ConnectionTable::look_on(Owner* owner) {
  for (uint32_t looked = 0; looked < kLookedOn; ++looked) {
    const uint32_t at = owner->hand ? owner->hand : owner->unproven.first;
    if (!at) return;
    owner->hand = records_[at - 1].next;
    if (!is_expendable(records_[at - 1])) prove(owner, at - 1);
  }
}

void ConnectionTable::prove(Owner* owner, uint32_t slot) {
  leave_unproven(owner, slot);
  records_[slot].proven = 1;
  append(&owner->proven, slot);
}

void ConnectionTable::leave_unproven(Owner* owner, uint32_t slot) {
  if (owner->hand == slot + 1) owner->hand = records_[slot].next;
  remove(&owner->unproven, slot);
}

// The oldest connection that has never been in use. Marks those that it finds in use as proven.
uint32_t ConnectionTable::find_unproven(Owner* owner) {
  for (uint32_t looked = 0; looked < kUnprovenLooked && owner->unproven.first; ++looked) {
    const uint32_t slot = owner->unproven.first - 1;
    if (is_expendable(records_[slot])) return slot;
    prove(owner, slot);
  }
  return kNone;
}

// The same, or else one that is over or a quiet tracked one. Those found in use are looked at last from now on.
uint32_t ConnectionTable::find_expendable(Owner* owner, Of whose, double now_ms) {
  if (const uint32_t slot = find_unproven(owner); slot != kNone) return slot;
  if (whose == Of::tracked && now_ms < owner->search_from_ms) return kNone;
  for (uint32_t looked = 0; looked < kProvenLooked && owner->proven.first; ++looked) {
    const uint32_t slot = owner->proven.first - 1;
    if (is_expendable(records_[slot]) || is_quiet(records_[slot], now_ms)) return slot;
    remove(&owner->proven, slot);
    append(&owner->proven, slot);
  }
  if (whose == Of::tracked) owner->search_from_ms = now_ms + kSearchAgainMs;
  return kNone;
}

// A connection of any owner, for when all slots are taken: a clock, whose hand has just passed the latest connections. As long
// as there are tracked ones, only these give way: one that is over or quiet, or else, unless it is for another tracked one, the
// first one. If there are so few that none is among many, it is one of the others that is over.
uint32_t ConnectionTable::find_of_all(Of whose, double now_ms) {
  if (whose == Of::tracked && now_ms < search_from_ms_) return kNone;
  const bool others_stay = tracked() > 0;
  const uint32_t most = others_stay && whose != Of::tracked ? kTrackedLooked : kAllLooked;
  uint32_t in_use = kNone, other = kNone;
  for (uint32_t looked = 0; looked < std::min(most, used_); ++looked) {
    if (looked >= kAllLooked && in_use != kNone) break;
    const uint32_t slot = hand_;
    if (is_used(slot) && may_take_place(whose, slot)) {
      const bool gives_way = is_expendable(records_[slot]) || is_quiet(records_[slot], now_ms);
      const bool stays = others_stay && !is_tracked(slot);
      if (gives_way && !stays) return slot;
      if (gives_way && other == kNone) other = slot;
      if (is_tracked(slot) && whose != Of::tracked && in_use == kNone) in_use = slot;
    }
    hand_ = (hand_ + 1) % used_;
  }
  if (whose == Of::tracked) search_from_ms_ = now_ms + kSearchAgainMs;
  return in_use != kNone ? in_use : other;
}

std::vector<uint32_t> ConnectionTable::owned(uint32_t owner) {
  std::lock_guard guard(mutex_);
  std::vector<uint32_t> slots;
  for (const List* list : {&owners_[owner].unproven, &owners_[owner].proven}) {
    for (uint32_t at = list->first; at; at = records_[at - 1].next) slots.push_back(at - 1);
  }
  return slots;
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

// After a crash. Timeouts start again, since the clock may be a different one, and no flow is known any more.
std::vector<uint32_t> ConnectionTable::recover(double now_ms) {
  std::lock_guard guard(mutex_);
  std::vector<uint32_t> translated;
  const uint32_t ready = std::min(header_->ready, count_);
  for (uint32_t slot = 0; slot < ready; ++slot) {
    Connection& record = records_[slot];
    if (record.generation == 0) continue;
    const ConnectionOpening opening = opening_of(record);
    const bool is_whole = record.generation % 2 == 0 && is_plausible(opening) && record.owner < kOwners;
    if (!is_whole || size() >= limits_.connections || is_known(opening)) {
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
    record.proven = 0;
    record.table = 0;
    insert_all(opening, slot);
    size_.store(size() + 1, std::memory_order_relaxed);
    if (is_tracked(slot)) {
      tracked_.store(tracked() + 1, std::memory_order_relaxed);
      append(&owners_[record.owner].unproven, slot);
    } else {
      translated.push_back(slot);
    }
  }
  return translated;
}

void ConnectionTable::adopt(uint32_t slot, uint32_t owner) {
  std::lock_guard guard(mutex_);
  records_[slot].owner = owner;
  append(&owners_[owner].unproven, slot);
}

}  // namespace weft
