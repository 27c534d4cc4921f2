// The table of connections: finds the one that a packet is of by its tuple, exactly,
// and keeps room for new ones. One for all workers; it is sized when it is made.
//
//   tuple, place ──► index ──► slot ──► record (connection.h)
//                                          │ of its owner's lists, or of the free slots
//
// The index is a ring of places of 8 bytes, four for each record: 32 bits of hash,
// and the slot with the direction. Both tuples of a connection are in it, so it is
// half full at most. Linear probing; deletion moves back what comes behind.
//
// Room. There may be `limits.connections` in all, and each owner may have a quota.
// Beyond that, one that is half-open, as long as nobody has answered, or over, is
// given up for a new one, the one that was opened first; where there is none, the new
// one is refused. Whether a connection is in use follows from what its halves say, and
// nobody is told when that changes. So it is unproven until somebody looks at it and
// sees it in use. Some unproven ones are looked at before each new connection, so of
// these an owner may have a smaller quota: whoever opens connections that nobody takes
// costs no more than that. To find one that can be given up costs the same however
// many there are: each is found to be in use once, and of those that are known to be,
// few are looked at.
//
// Threads. What changes the table takes its lock: the lists, the index and the heads
// of records are the lock's. A worker finds connections without it (`find`):
//   - What it has found it may use until it says that it holds nothing (`pass`,
//     `leave`). A slot that was freed is taken again only when each worker has said so
//     since, so no head is written while a frame is between finding it and its end.
//   - An index entry that is moved back may be missed. `version_` is odd meanwhile, and
//     a search that has found nothing is made again when it has changed.
// Anybody may open or close a connection. Those that workers open are tracked only;
// what they give up for it is tracked only, too: whoever opens others, which is the
// controlling thread, hears of all of their ends.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "connection.h"
#include "key.h"
#include "zeroed_array.h"

namespace weft {

// The place of what comes from outside of all networks.
inline constexpr uint32_t kOutside = 0;

// By what a connection is found: a tuple, and where it was seen.
struct TupleKey {
  Tuple tuple;
  uint32_t place;
  uint64_t protocol;
};
static_assert(sizeof(TupleKey) == 48);

// Of a packet with this key that was seen in `place`. False: it is none that a connection can be of.
inline bool tuple_of(const Key& key, uint32_t place, TupleKey* to) {
  constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmpv6 = 58;
  const uint32_t eth_type = load16(key.eth_type), type = load16(key.l4_src);
  if (eth_type != 0x0800 && eth_type != 0x86dd) return false;
  const uint8_t *source_port = key.icmp_id, *destination_port = key.icmp_id;
  switch (key.ip_proto) {
    case kTcp:
    case kUdp:
      source_port = key.l4_src;
      destination_port = key.l4_dst;
      break;
    case kIcmp:
      if (eth_type != 0x0800 || (type != 8 && type != 0)) return false;
      break;
    case kIcmpv6:
      if (eth_type != 0x86dd || (type != 128 && type != 129)) return false;
      break;
    default:
      return false;
  }
  memcpy(to->tuple.source, key.ip_src, 16);
  memcpy(to->tuple.destination, key.ip_dst, 16);
  memcpy(to->tuple.source_port, source_port, 2);
  memcpy(to->tuple.destination_port, destination_port, 2);
  to->place = place;
  to->protocol = key.ip_proto;
  return true;
}

inline Tuple turned(const Tuple& tuple) {
  Tuple to;
  memcpy(to.source, tuple.destination, 16);
  memcpy(to.destination, tuple.source, 16);
  memcpy(to.source_port, tuple.destination_port, 2);
  memcpy(to.destination_port, tuple.source_port, 2);
  return to;
}

// Before the records in their memory, in as many bytes as one of them has.
struct ConnectionsHeader {
  char magic[8];
  uint32_t version;
  uint32_t record_bytes;
  uint32_t ready;  // slots below this have memory, and may have been used
};

// A connection that is to be opened. As JavaScript hands it over.
struct ConnectionOpening {
  uint32_t places[2];
  uint8_t protocol;
  ConnectionKind kind;
  uint8_t zero[2];
  Tuple original;
  Tuple translated;
};
static_assert(sizeof(ConnectionOpening) == 84);

struct ConnectionLimits {
  uint32_t connections;
  // Of those that workers open, for each owner.
  uint32_t quota;
  uint32_t unproven_quota;
};

class ConnectionTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;  // no slot
  static constexpr uint32_t kFree = kNone - 1;   // of `room`: nothing need be given up
  static constexpr uint32_t kOwners = 1u << 17;
  static constexpr uint32_t kWorkers = 32;

  // `memory`: the header, then records. It stays as long as the table.
  ConnectionTable(uint8_t* memory, size_t bytes, const ConnectionLimits& limits, uint64_t seed);
  ConnectionTable(const ConnectionTable&) = delete;
  ConnectionTable& operator=(const ConnectionTable&) = delete;

  // A worker's side

  struct Found {
    Connection* at = nullptr;
    uint32_t slot = kNone;
    uint32_t generation = 0;
    bool reply = false;

    explicit operator bool() const { return at; }
    // Is it still that connection? What was found before the last `pass` need not be.
    bool is_open() const {
      return at && std::atomic_ref(at->generation).load(std::memory_order_acquire) == generation;
    }
  };

  // The worker begins to use what it finds, holds nothing of before any more, or uses nothing.
  void enter(uint32_t worker) {
    holders_[worker].seen.exchange(epoch_.load());
    (void)epoch_.load();
  }
  void pass(uint32_t worker) {
    const uint64_t epoch = epoch_.load(std::memory_order_acquire);
    std::atomic<uint64_t>& seen = holders_[worker].seen;
    if (seen.load(std::memory_order_relaxed) != epoch) seen.store(epoch, std::memory_order_release);
  }
  void leave(uint32_t worker) { holders_[worker].seen.store(kIdle, std::memory_order_release); }

  // Another number after each opening.
  uint32_t opened() const { return opened_.load(std::memory_order_relaxed); }
  bool empty() const { return size_.load(std::memory_order_relaxed) == 0; }
  uint32_t hash(const TupleKey& key) const;
  // Brings in where a search begins; the record that it will most likely end at.
  void prefetch(uint32_t hash) const { __builtin_prefetch(&index_[home(hash)]); }
  void prefetch_record(uint32_t hash) const;
  Found find(const TupleKey& key, uint32_t hash) const;
  Found find(const TupleKey& key) const { return find(key, hash(key)); }
  // Null: it has ended since.
  Connection* at(uint32_t slot, uint32_t generation) const {
    const Found found = {slot < count_ ? records_ + slot : nullptr, slot, generation, false};
    return found.is_open() ? found.at : nullptr;
  }
  // Opens a tracked one, unless it is there by now. None: there is no room.
  Found open(const TupleKey& key, uint32_t replies_place, uint32_t owner, double now_ms);

  // The controlling thread's side

  size_t size() const { return size_.load(std::memory_order_relaxed); }
  // 2 · slot, and 1 more in the reply direction; kNone if there is none.
  uint32_t find_handle(const TupleKey& key) const;
  // Looks at some unproven ones of these owners, which share a quota.
  void look_on(const uint32_t* owners, size_t count);
  // For one more besides what these owners have: kFree, or the slot that can be given up for it, or kNone.
  uint32_t room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota);
  // Opens one in a slot of its own, after those in `given_up` (kNone is skipped) were closed. kNone: it cannot be,
  // because there is no slot or its tuples are known.
  uint32_t open(const ConnectionOpening& opening, uint32_t owner, double now_ms, const uint32_t (&given_up)[2]);
  void close(uint32_t slot);
  std::vector<uint32_t> owned(uint32_t owner);
  // Of some at each call: closes tracked ones that have not been used for long, and returns such others.
  std::vector<uint32_t> expire(double now_ms);
  // Takes over what the memory holds from before, when there is nothing else yet; what is not whole is freed. Returns
  // the translated ones, which have no owner until they are adopted.
  std::vector<uint32_t> recover(double now_ms);
  void adopt(uint32_t slot, uint32_t owner);

 private:
  static constexpr uint64_t kIdle = UINT64_MAX;

  // Slots in the order in which they came, linked through their records.
  struct List {
    uint32_t first;  // slot + 1, so that zeroed memory is an empty list
    uint32_t last;
    uint32_t size;
  };
  struct Owner {
    List unproven;  // the one that was opened first comes first
    List proven;    // seen in use, the one that was not looked at for longest first: it may be over by now
    uint32_t hand;  // slot + 1: the unproven one that is looked at next
  };
  struct alignas(64) Holder {
    std::atomic<uint64_t> seen = kIdle;
  };

  size_t home(uint32_t hash) const { return static_cast<size_t>(uint64_t{hash} * places_ >> 32); }
  size_t next(size_t at) const { return at + 1 == places_ ? 0 : at + 1; }
  uint64_t entry(size_t at) const { return std::atomic_ref(index_[at]).load(std::memory_order_acquire); }
  void set_entry(size_t at, uint64_t value) { std::atomic_ref(index_[at]).store(value, std::memory_order_release); }
  Found probe(const TupleKey& key, uint32_t hash) const;
  void insert(const TupleKey& key, uint32_t handle);
  void erase(const TupleKey& key, uint32_t handle);
  TupleKey name(uint32_t slot, bool reply) const;

  void append(List* list, uint32_t slot);
  void remove(List* list, uint32_t slot);
  uint32_t take_slot();
  bool may_take(uint32_t slot) const;
  bool prepare(uint32_t slot);
  void free_slot(uint32_t slot);
  uint32_t put(const ConnectionOpening& opening, uint32_t owner, double now_ms, const uint32_t (&given_up)[2]);
  void close_held(uint32_t slot);
  bool is_used(uint32_t slot) const { return records_[slot].generation != 0; }
  bool is_expendable_at(uint32_t slot) { return is_used(slot) && is_expendable(records_[slot]); }
  void look_on(Owner* owner);
  void prove(Owner* owner, uint32_t slot);
  void leave_unproven(Owner* owner, uint32_t slot);
  uint32_t find_unproven(Owner* owner);
  uint32_t find_expendable(Owner* owner);
  uint32_t find_of_all(bool tracked_only);
  template <typename FindOne>
  uint32_t oldest(const uint32_t* owners, size_t count, FindOne find_one);
  uint32_t room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota, bool tracked_only);

  ConnectionsHeader* const header_;
  Connection* const records_;
  const uint32_t count_;  // records
  const ConnectionLimits limits_;
  const size_t places_;
  mutable ZeroedArray<uint64_t> index_;  // hash, handle + 1; 0: free
  uint64_t secrets_[6];

  mutable std::mutex mutex_;
  std::atomic<uint32_t> version_ = 0;
  std::atomic<uint64_t> epoch_ = 1;
  Holder holders_[kWorkers];
  std::atomic<size_t> size_ = 0;
  std::atomic<uint32_t> opened_ = 0;
  ZeroedArray<Owner> owners_;
  List free_ = {};
  uint32_t used_ = 0;  // slots below this were used at some time
  uint32_t generation_ = 0;
  uint32_t swept_ = 0;
  uint32_t hand_ = 0;  // the next slot to be looked at where all are in use
};

}  // namespace weft
