// The table of connections: finds the connection of a packet by its exact tuple, and makes room for
// new ones. There is one table for all workers, and its size is fixed when it is created.
//
//   tuple, place ──► index ──► slot ──► record (connection.h)
//                                          │ in its owner's lists, or among the free slots
//
// The index contains both tuples of each connection, or one if they are the same, or if it is UDP that weft has ended:
// then only what its backend still sends is known, and the next packet of its client begins another one. Of a connection
// that goes from a network to a network, it also contains the tuple with which its packets go on, as its client could send
// it: the replies would be the same. A search prefers what it finds otherwise. The index is a ring of buckets, each a
// cache line with
// room for twelve entries: a tag of 8 bits of the hash, and the slot with the name. All tags of a
// bucket are compared at once, so a search waits for one line, and no branch depends on where in it the
// entry is. There are three records for each bucket, so it is three quarters full at most. Of entries whose bucket
// is full, the search goes on in the next bucket; deletion moves such entries back.
//
// Room. There may be `limits.connections` in all, and each owner may have a quota. When that is used
// up, a new connection replaces the oldest one that is half-open (nobody has answered it) or over. If
// there is none, the new one is refused. Whether a connection is in use follows from what its halves
// say, and nothing signals when that changes. So a connection is unproven until somebody looks at it
// and sees it in use. Some unproven ones are looked at before each new connection. That is why an
// owner may have a smaller quota of them: opening connections that nobody answers takes no more
// than that. The cost of finding one to give up does not depend on their number: each is found to be
// in use once, and few of the proven ones are looked at.
//
// Who floods a service with SYNs gets no further than that either: of TCP connections that were never established, an owner gives up
// as many a second for other balanced ones as may be unproven. What begins beyond that is refused. So a backend is asked for no more,
// however many come, and what it answers takes nothing from its other clients.
//
// Tracked connections are owned by the port where they began, or by the host that they came from. They never take the room of
// others: a tracked one takes only the place of another tracked one, and if all are taken, a tracked one gives way to a
// translated one, before one of the others does; only `limits.reserved` are left to the tracked ones. A tracked connection that
// has been quiet for some minutes may be given up, too: nothing signals that a host behind the tunnel has died. If none is
// over or quiet, the owner with the most of them gives one up that is in use (`by_size_`): for a translated one, and for an
// owner that would still have no more than that one. So nobody who fills the table keeps others from new conversations: each
// owner gets its fair share. What nobody answers takes no more of others than `limits.guaranteed`. A packet
// that finds no room all the same goes on untracked, and the next one of its conversation tries again. So that this costs the
// others nothing, a search that was in vain is not repeated within a millisecond.
//
// Threads. Whatever changes the table takes its lock, which protects the lists, the index and the
// heads of records. A worker finds connections without the lock (`find`):
//   - It may use what it has found until it says that it holds nothing (`pass`, `leave`). A freed
//     slot is taken again only after each worker has said so, so no head is written between a
//     frame's finding it and the end of that frame. Tracked ones are not opened when few slots are left that can be
//     taken: so there are some for the others when a worker says nothing for a while.
//   - It may miss an index entry that is being moved back. `version_` is odd during that time, and a
//     search that has found nothing is repeated if it has changed.
// Any thread may open or close a connection. Workers open those that are only tracked, and those whose backend a balancing
// table chose (balancing.h), and they close only such. So the controlling thread learns of the end of all others. It may
// open balanced ones as well, and it may `claim` one: then it learns of its end, too.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "balancing_table.h"
#include "connection.h"
#include "key.h"
#include "meters.h"
#include "slot_index.h"
#include "zeroed_array.h"

namespace weft {

// The place of packets from outside all networks.
inline constexpr uint32_t kOutside = 0;
// The place of packets from weft's own sockets: INTERNAL of src/flow/connection.ts.
inline constexpr uint32_t kInternal = 0x0100'0000;

// The key of a connection: a tuple, and the place where it was seen.
struct TupleKey {
  Tuple tuple;
  uint32_t place;
  uint64_t protocol;
};
static_assert(sizeof(TupleKey) == 48);

// Sets the tuple of a packet with this key that was seen in `place`: with ports for TCP, UDP and SCTP, with the identifier
// for an echo, and for a protocol without ports, only addresses. False if such a packet cannot belong to a connection: no
// other ICMP message can, nor can what is not IP.
// For every packet there is: the tuple is put together in words, as the key has it.
inline bool tuple_of(const Words& key, uint32_t place, TupleKey* to) {
  static_assert(std::endian::native == std::endian::little && offsetof(Key, ip_src) == 40 && offsetof(Key, ip_dst) == 56 &&
                offsetof(TupleKey, place) == 36);
  constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmpv6 = 58, kSctp = 132;
  const auto* bytes = reinterpret_cast<const uint8_t*>(key.at);
  const uint32_t eth_type = load16(bytes + offsetof(Key, eth_type));
  if (eth_type != 0x0800 && eth_type != 0x86dd) return false;
  const uint8_t protocol = bytes[offsetof(Key, ip_proto)];
  uint32_t ports = 0;
  if (protocol == kTcp || protocol == kUdp || protocol == kSctp) {
    memcpy(&ports, bytes + offsetof(Key, l4_src), 4);
  } else if (protocol == kIcmp || protocol == kIcmpv6) {
    const uint32_t type = load16(bytes + offsetof(Key, l4_src));
    const bool is_echo = protocol == kIcmp ? eth_type == 0x0800 && (type == 8 || type == 0)
                                           : eth_type == 0x86dd && (type == 128 || type == 129);
    if (!is_echo) return false;
    uint16_t identifier;
    memcpy(&identifier, bytes + offsetof(Key, icmp_id), 2);
    ports = identifier * 0x10001u;
  }
  const uint64_t words[] = {key.at[5], key.at[6], key.at[7], key.at[8], uint64_t{place} << 32 | ports, protocol};
  memcpy(to, words, sizeof words);
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

// The header in front of the records, as large as one of them.
struct ConnectionsHeader {
  char magic[8];
  uint32_t version;
  uint32_t record_bytes;
  uint32_t ready;  // slots below this one have memory, and may have been used
};

// A connection to be opened, in the form in which JavaScript passes it.
struct ConnectionOpening {
  uint32_t places[2];
  uint8_t protocol;
  ConnectionKind kind;
  uint8_t zero[2];
  Tuple original;
  Tuple translated;
  uint32_t pin;  // the backend chosen for it; 0: none
  uint8_t via[16];
  uint32_t table;  // the balancing table that chose the backend; 0: the controlling thread learns of its end
  Treatment treatment = {};
  uint32_t port = 0;  // where it comes in, if it is translated; 0: not by a port of this host
};
static_assert(sizeof(ConnectionOpening) == 128 && offsetof(ConnectionOpening, treatment) == 108);

struct ConnectionLimits {
  uint32_t connections;
  // For each owner of connections that workers open.
  uint32_t quota;
  uint32_t unproven_quota;
  // How many tracked ones that were not seen in use an owner may have when it takes one of the owner with the most; and how many
  // of all are for tracked ones alone.
  uint32_t guaranteed = 0;
  uint32_t reserved = 0;
};

class ConnectionTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;  // no slot
  static constexpr uint32_t kFree = kNone - 1;   // returned by `room`: nothing needs to be given up
  static constexpr uint32_t kOwners = 1u << 17;  // as BalanceOwners in action.h has it
  static constexpr uint32_t kFirstFreeOwner = (1u << 16) + 256;  // those below are ports and other hosts
  static constexpr uint32_t kWorkers = 32;

  // `memory` holds the header, then the records, and must live as long as the table.
  ConnectionTable(uint8_t* memory, size_t bytes, const ConnectionLimits& limits, uint64_t seed);
  ConnectionTable(const ConnectionTable&) = delete;
  ConnectionTable& operator=(const ConnectionTable&) = delete;

  // A connection to be given up for another one. It is closed only if its slot still has it.
  struct GivenUp {
    uint32_t slot = kNone;
    uint32_t generation = 0;
  };

  // A worker's side

  struct Found {
    Connection* at = nullptr;
    uint32_t slot = kNone;
    uint32_t generation = 0;
    bool reply = false;
    // If nothing was found: a connection goes on with this tuple.
    bool taken = false;
    // If none was opened: too many of its owners were never established.
    bool refused = false;

    explicit operator bool() const { return at; }
    // True if it is still the same connection. Call this for anything found before the last `pass`.
    bool is_open() const {
      return at && std::atomic_ref(at->generation).load(std::memory_order_acquire) == generation;
    }
  };

  // The worker begins to use what it finds; no longer holds what it found before; or uses nothing.
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

  // False: no connection can ever be opened.
  bool may_open() const { return limits_.connections > 0; }
  // Changes with each opening.
  uint32_t opened() const { return opened_.load(std::memory_order_relaxed); }
  bool empty() const { return size_.load(std::memory_order_relaxed) == 0; }
  // False: no connection has packets that come in there.
  bool has_any_in(uint32_t place) const { return in_place_[place % kPlaceCounts].load(std::memory_order_relaxed) > 0; }
  // NH (RFC 4418 §5.2), as the flow cache has it.
  uint32_t hash(const TupleKey& key) const {
    uint64_t words[6];
    memcpy(words, &key, sizeof words);
    unsigned __int128 sum = 0;
    for (size_t i = 0; i < 6; i += 2) {
      sum += static_cast<unsigned __int128>(words[i] + secrets_[i]) * (words[i + 1] + secrets_[i + 1]);
    }
    return static_cast<uint32_t>(hash_mix(static_cast<uint64_t>(sum), static_cast<uint64_t>(sum >> 64)));
  }
  // Prefetches the place where a search begins, and the record at which it will most likely end.
  void prefetch(uint32_t hash) const { __builtin_prefetch(&index_[home(hash)]); }
  void prefetch_record(uint32_t hash) const;
  Found find(const TupleKey& key, uint32_t hash) const;
  Found find(const TupleKey& key) const { return find(key, hash(key)); }
  // Null if the connection has ended.
  Connection* at(uint32_t slot, uint32_t generation) const {
    const Found found = {slot < count_ ? records_ + slot : nullptr, slot, generation, false};
    return found.is_open() ? found.at : nullptr;
  }
  // Opens a tracked connection unless it already exists. A packet that `begins` one takes the place of a tracked one with the
  // same ends: of its own direction, if that has been answered, and of the other one, if that is over. Finds none if it is not
  // over, if another kind of connection has the tuple, if the replies would be those of another connection, or if there is no
  // room.
  Found open(const TupleKey& key, uint32_t replies_place, uint32_t owner, double now_ms, bool begins = false,
             const Treatment& treatment = {});
  // Opens a connection to the backend that this table chooses, in the place of one between the same ends that is over. Its
  // owner is the first one; 0 is none. Finds none if the controlling thread has to decide: there is no such table, the
  // place of replies is not known, the backend is the client itself, a tuple is taken, or only a connection of the
  // controlling thread could make room. If none may be opened now, it says that it is refused.
  Found open_balanced(uint32_t table, const uint32_t (&owners)[kBalanceOwners], const TupleKey& key, double now_ms,
                      uint32_t port = 0);

  // What limits the packets of connections.
  Meters& meters() { return meters_; }

  // The controlling thread's side

  size_t size() const { return size_.load(std::memory_order_relaxed); }
  // How many of them are only tracked.
  size_t tracked() const { return tracked_.load(std::memory_order_relaxed); }
  // How many of them weft has ended.
  size_t ended() const { return ended_.load(std::memory_order_relaxed); }
  // That of the latest connection. Later ones have greater ones, until they wrap.
  uint32_t latest() const {
    std::lock_guard guard(mutex_);
    return generation_ * 2;
  }
  // 2 · slot, plus 1 for the reply direction; kNone if there is none. Sets its generation.
  uint32_t find_handle(const TupleKey& key, uint32_t* generation = nullptr) const;
  // True if no connection has that tuple, but one goes on with it.
  bool is_taken(const TupleKey& key) const;
  // Room for one more connection of these owners, which share a quota: kFree, or the slot that can be given up for it,
  // or kNone. Looks at some of their unproven connections first. Sets the generation of that slot.
  uint32_t room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota,
                uint32_t* generation = nullptr);
  // Closes those in `given_up`, then opens a connection in another slot. Returns kNone if there is no free slot, if its
  // tuples are taken, or if there is no room, since others have taken that of those given up.
  uint32_t open(const ConnectionOpening& opening, uint32_t owner, double now_ms, const GivenUp (&given_up)[2]);
  // With a generation, only if the slot still has that connection.
  void close(uint32_t slot, uint32_t generation = 0);
  // From now on, packets of that direction take this flow. Does nothing if the slot has another connection by now.
  void set_flow(uint32_t slot, uint32_t generation, bool reply, uint32_t flow);
  // From now on, workers do not close it, and its table is 0. False if the slot has another connection by now.
  bool claim(uint32_t slot, uint32_t generation);
  // Balancing tables. The id is not 0, and the table is valid. Once a table has been removed, no connection is opened by it.
  void add_table(uint32_t id, BalancingTable table);
  void remove_table(uint32_t id);
  // How many connections that workers may close have this backend, or were chosen by this table.
  uint32_t balanced_to(uint32_t pin) const;
  uint32_t balanced_by(uint32_t table) const;
  // From now on, its packets are not translated any more, and take no flow. Workers do not close it, unless it was only
  // tracked. With a generation, only if the slot still has that connection. The verdict says why, as in the record.
  void end(uint32_t slot, double now_ms, uint32_t generation = 0, uint8_t verdict = 0);
  // Notes of one that has ended that its ends know. Does nothing if the slot has another connection by now.
  void note_told(uint32_t slot, uint32_t generation);
  std::vector<uint32_t> owned(uint32_t owner);
  // Closes connections of a port, at most `limit`, but none that is later than the one of that generation. Returns how many.
  uint32_t close_owned(uint32_t owner, uint32_t limit, uint32_t until);
  // Checks some connections in each call: closes those that workers may close and that have been idle for too long, and
  // returns such others.
  std::vector<uint32_t> expire(double now_ms);
  // Takes over what the memory already holds, before anything else is opened, and frees incomplete records. Returns the
  // translated connections, which have no owner until they are adopted.
  std::vector<uint32_t> recover(double now_ms);
  void adopt(uint32_t slot, uint32_t owner);

 private:
  static constexpr uint64_t kIdle = UINT64_MAX;
  static constexpr size_t kPlaceCounts = 4096;
  static constexpr size_t kRecordsPerBucket = 3;
  static constexpr unsigned kEntries = 12;

  // Whose place a new connection may take: that of any other, of those that workers may close, or of tracked ones.
  enum class Of : uint8_t { any, workers, tracked };

  // By what a connection is found: the tuple of either direction, or that with which its packets go on.
  enum Name : uint32_t { kOriginal, kReply, kTaken };

  // Written under the lock, and read by workers at the same time. A handle is 4 · slot + the name.
  struct alignas(64) Bucket {
    uint64_t tags[2];  // a byte for each entry, 0 if it is free; the last four bytes are unused
    uint32_t handles[kEntries];
  };
  static_assert(sizeof(Bucket) == 64);

  // Some entries of a bucket, as bits at 8 · i + 7 for the first eight and at 8 · i + 6 for the others.
  struct Entries {
    uint64_t bits;
    explicit operator bool() const { return bits; }
    unsigned first() const {
      const unsigned bit = std::countr_zero(bits);
      return bit >> 3 | (~bit & 1) << 3;
    }
    void drop_first() { bits &= bits - 1; }
  };

  // Slots in the order in which they were added, linked through their records.
  struct List {
    uint32_t first;  // slot + 1, so that zeroed memory is an empty list
    uint32_t last;
    uint32_t size;
  };
  struct Owner {
    List unproven;  // oldest first
    List proven;    // seen in use; the one not looked at for longest comes first, and may be over by now
    uint32_t hand;  // slot + 1: the next unproven one to look at
    uint32_t next, previous;  // owner + 1: in the list of those with about as many
    uint32_t size_class;  // the number of that list; 0: in none
    double search_from_ms;  // until then, its proven ones are not searched for a tracked one again
    // Until then, as many that were never established have been given up as may be; at most a second ahead.
    double given_up_until_ms;

    uint32_t size() const { return unproven.size + proven.size; }
  };
  struct alignas(64) Holder {
    std::atomic<uint64_t> seen = kIdle;
  };

  size_t home(uint32_t hash) const { return static_cast<size_t>(uint64_t{hash} * index_.size() >> 32); }
  size_t next(size_t at) const { return at + 1 == index_.size() ? 0 : at + 1; }
  size_t distance(size_t from, size_t to) const { return to >= from ? to - from : to + index_.size() - from; }
  // Never 0.
  static uint8_t tag_of(uint32_t hash) { return hash & 0xff ? hash & 0xff : 1; }
  Entries entries_of(size_t at, uint8_t tag) const;
  Entries free_entries(size_t at) const { return {entries_of(at, 0).bits & ~0x40404040'00000000u}; }
  uint32_t handle_at(size_t at, unsigned entry) const {
    return std::atomic_ref(index_[at].handles[entry]).load(std::memory_order_acquire);
  }
  void set_entry(size_t at, unsigned entry, uint8_t tag, uint32_t handle);
  void free_entry(size_t at, unsigned entry);
  bool move_back_to(size_t at, unsigned entry, size_t* from, unsigned* moved);
  Found probe(const TupleKey& key, uint32_t hash) const;
  Found found_at(uint32_t handle, const TupleKey& key) const;
  bool is_taken_at(uint32_t handle, const TupleKey& key) const;
  void insert(const TupleKey& key, uint32_t handle);
  void erase(const TupleKey& key, uint32_t handle);
  // As far as it decides under which names it is found.
  static ConnectionOpening opening_of(const Connection& connection);
  TupleKey name(uint32_t handle) const;
  static TupleKey name(const ConnectionOpening& of, Name which);
  static bool is_found(const ConnectionOpening& of, Name which);
  // True if a connection is found by one of its tuples.
  bool is_known(const ConnectionOpening& of) const;
  void prefetch_all(const ConnectionOpening& of) const;
  void insert_all(const ConnectionOpening& of, uint32_t slot);

  void append(List* list, uint32_t slot);
  void remove(List* list, uint32_t slot);
  void own(uint32_t slot, uint32_t owner);
  void disown(uint32_t slot);
  void resized(uint32_t owner);
  uint32_t take_slot();
  bool may_take(uint32_t slot) const;
  uint32_t takeable() const;
  bool prepare(uint32_t slot);
  void free_slot(uint32_t slot);
  uint32_t put(const ConnectionOpening& opening, uint32_t owner, double now_ms, const GivenUp (&given_up)[2]);
  // What is in that slot now, if it is one.
  GivenUp given_up(uint32_t slot) const {
    return slot < used_ ? GivenUp{slot, records_[slot].generation} : GivenUp{};
  }
  bool is_there(const GivenUp& one) const {
    return one.slot < used_ && one.generation != 0 && records_[one.slot].generation == one.generation;
  }
  void close_held(uint32_t slot);
  void count_kind(const Connection& connection, int by);
  bool is_used(uint32_t slot) const { return records_[slot].generation != 0; }
  // True if workers may close it.
  bool is_of_workers(uint32_t slot) const {
    return records_[slot].table != 0 || is_of_port(slot);
  }
  void count_balanced(const Connection& connection, int by);
  void look_on(Owner* owner);
  void prove(Owner* owner, uint32_t slot);
  void leave_unproven(Owner* owner, uint32_t slot);
  uint32_t find_unproven(Owner* owner);
  uint32_t find_expendable(Owner* owner, Of whose, double now_ms);
  uint32_t find_of_all(Of whose, double now_ms);
  uint32_t find_of_fullest(uint32_t more_than, double now_ms);
  uint32_t fullest() const;
  bool may_take_place(Of whose, uint32_t slot) const {
    return whose == Of::any || (whose == Of::workers ? is_of_workers(slot) : is_of_port(slot));
  }
  // Tracked, or it was when policies ended it: it counts for a port.
  bool is_of_port(uint32_t slot) const {
    const bool has_ended = kind_of(records_[slot]) == ConnectionKind::ended;
    return is_tracked(slot) || (has_ended && records_[slot].owner < kFirstFreeOwner);
  }
  bool is_tracked(uint32_t slot) const { return kind_of(records_[slot]) == ConnectionKind::tracked; }
  template <typename FindOne>
  uint32_t oldest(const uint32_t* owners, size_t count, FindOne find_one);
  uint32_t room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota, Of whose, double now_ms);
  bool is_refused(uint32_t slot, uint8_t protocol, const uint32_t* owners, size_t count, uint32_t unproven_quota, double now_ms);

  ConnectionsHeader* const header_;
  Connection* const records_;
  const uint32_t count_;  // records
  const ConnectionLimits limits_;
  mutable ZeroedArray<Bucket> index_;
  uint64_t secrets_[6];

  mutable std::mutex mutex_;
  std::atomic<uint32_t> version_ = 0;
  std::atomic<uint64_t> epoch_ = 1;
  Holder holders_[kWorkers];
  std::atomic<size_t> size_ = 0, tracked_ = 0, ended_ = 0;
  // How many entries of the index have a place; some places share a number.
  std::atomic<uint32_t> in_place_[kPlaceCounts] = {};
  std::atomic<uint32_t> opened_ = 0;
  ZeroedArray<Owner> owners_;
  Meters meters_;
  // Owners of tracked ones, by how many they have: in list n those with 2^(n-1) or more, and fewer than 2^n.
  struct {
    uint32_t first, last;  // owner + 1
  } by_size_[33] = {};
  std::unordered_map<uint32_t, BalancingTable> tables_;
  // Counts of the connections with a table, by pin and by table.
  std::unordered_map<uint32_t, uint32_t> balanced_to_, balanced_by_;
  List free_ = {};
  uint32_t used_ = 0;  // slots below this one have been used at some time
  uint32_t generation_ = 0;
  uint32_t swept_ = 0;
  uint32_t hand_ = 0;  // the next slot to look at when all are in use
  double search_from_ms_ = 0;  // until then, no tracked one looks for room among all
};

}  // namespace weft
