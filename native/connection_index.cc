// How connections are found: the index of their tuples. connection_table.h explains it.
#include "connection_table.h"

namespace weft {
namespace {

// How often a search that finds nothing is repeated because entries were moved in the meantime.
constexpr int kSearches = 64;

bool is_network(uint32_t place) { return place != kOutside && place != kInternal; }

}  // namespace

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

ConnectionOpening ConnectionTable::opening_of(const Connection& connection) {
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

}  // namespace weft
