// The flow cache: megaflows (a key under a mask) with their actions and statistics. It is a tuple
// space search: there is one exact-match table for each distinct mask, they are searched one after
// the other, and the first hit wins.
//
// There are few masks because they consist of whole fields, and at most kMaskCap, which limits the
// probes of a miss. A mask is removed with its last flow. Tables are searched in the order in which
// their masks were added, never by use: which of several overlapping flows is hit must not depend on
// the traffic.
//
// With a million flows, a lookup mostly waits for memory, so a flow is laid out by cache lines. Only
// the words of its key under the mask are stored: the first three next to the statistics, in one
// line, and the others separately, where they take no memory until some mask has that many. A hit by
// MAC addresses touches two lines, the index's and the flow's; any other hit touches a third or a
// fourth. The lookup of a burst prefetches the lines of all its keys before it waits for the first.
//
// Some flows belong to connections. They are found by the id that the connection stores, and no mask
// is searched for them (connection.h). Their tables have no index, and many of them may have the
// same key.
//
// Slots are numbered and never move; those of erased flows are used again. A flow takes 64 bytes, 80
// more if its mask has over three words, and 11 to 21 in each of two indexes.
//
// Nothing expires by itself: the controller looks at `last_used_ms` and erases. Puts that a cap
// refuses are counted; src/control/masks.ts decides which mask gives way for another one. A cache is
// owned by one datapath and not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "action.h"
#include "key.h"
#include "slot_index.h"
#include "zeroed_array.h"

namespace weft {

inline constexpr size_t kMaskCap = 64;
// For flows of connections.
inline constexpr size_t kConnectionMaskCap = 64;

// The words of a key under a mask, followed by zeros.
struct MaskedKey {
  uint64_t at[kKeyWords + 1];
};

struct FlowTable {
  FlowTable(const Words& of, uint8_t as, bool of_connections);
  void apply(const Words& key, MaskedKey* to) const;

  Words mask;
  uint8_t number;                      // its number among the tables
  bool of_connections;                 // not searched, so its index is empty
  uint8_t used_count = 0;              // words that are not fully wildcarded
  uint8_t hashed_count;                // an even number; padded with zeros
  uint8_t used[kKeyWords + 1] = {};    // which words
  uint64_t masks[kKeyWords + 1] = {};  // the mask of each
  SlotIndex index;
  size_t flows = 0;
};

inline constexpr size_t kHeadWords = 3;

struct alignas(64) Flow {
  uint64_t packets = 0;
  uint64_t bytes = 0;
  double last_used_ms = 0;
  Program program;
  uint32_t id = 0;  // in a free slot: the next free slot
  uint8_t table = kNoTable;
  uint64_t head[kHeadWords] = {};  // the first words of the masked key

  static constexpr uint8_t kNoTable = 0xff;  // a free slot
};
static_assert(sizeof(Flow) == 64);
static_assert(kMaskCap + kConnectionMaskCap <= Flow::kNoTable, "too many masks: widen Flow::table and FlowTable::number");
static_assert(kKeyWords < UINT8_MAX, "too many words in a key: widen the numbers of words in FlowTable");

// The words of a masked key after the head.
struct FlowTail {
  uint64_t at[kKeyWords - kHeadWords];
};

// Refused puts, by what there was no room for.
struct Refusals {
  uint64_t flows = 0;
  uint64_t masks = 0;
};

class FlowCache {
 public:
  // At most `cap` flows, 1 or more. `seed` keys the hashes; senders of frames must not be able to guess
  // it.
  FlowCache(size_t cap, uint64_t seed);
  FlowCache(const FlowCache&) = delete;
  FlowCache& operator=(const FlowCache&) = delete;
  ~FlowCache();

  // The flow that covers `key`, or null. Valid until the next put or erase.
  Flow* lookup(const Words& key);

  // The same for `count` keys at once: `found[i]` is for `*keys[i]`.
  void lookup(const Words* const* keys, size_t count, Flow** found);

  // If the id exists, replaces the program of its flow and keeps everything else. If another id has the
  // same key and mask, that flow gets this id and program, and its statistics start again. Returns
  // false, and counts it, if a new flow or mask would exceed a cap. `key` need not be masked.
  bool put(uint32_t id, const Words& key, const Words& mask, Program program, double now_ms) {
    return put(id, key, mask, false, std::move(program), now_ms);
  }
  // The same for a flow of connections, which does not replace equal flows with other ids.
  bool put_of_connections(uint32_t id, const Words& key, const Words& mask, Program program, double now_ms) {
    return put(id, key, mask, true, std::move(program), now_ms);
  }
  void erase(uint32_t id);

  // The flow with this id, or null. `slot` is a hint where it may be, and is set to where it is.
  Flow* by_id(uint32_t id, uint32_t* slot) {
    if (!is_at(*slot, id)) *slot = find_id(id);
    return *slot == SlotIndex::kNone ? nullptr : &flows_[*slot];
  }
  uint32_t slot_of(const Flow* flow) const { return static_cast<uint32_t>(flow - &flows_[0]); }
  void prefetch(uint32_t slot) const {
    if (slot < slots_) __builtin_prefetch(&flows_[slot], 1);
  }
  // True if the flow covers that key.
  bool covers(const Flow* flow, const Words& key) const {
    const FlowTable& table = *tables_[flow->table];
    MaskedKey masked;
    table.apply(key, &masked);
    return matches(table, masked, slot_of(flow));
  }

  // The flow with this id, or null.
  const Flow* by_id(uint32_t id) const {
    const uint32_t slot = find_id(id);
    return slot == SlotIndex::kNone ? nullptr : &flows_[slot];
  }

  // Calls `visit(flow, key, mask)` with the flow of this id, if there is one.
  template <typename Visit>
  void visit(uint32_t id, Visit visit) const {
    const uint32_t slot = find_id(id);
    if (slot != SlotIndex::kNone) visit(flows_[slot], key_of(slot), tables_[flows_[slot].table]->mask);
  }

  size_t flows() const { return by_id_.size(); }
  // Masks that are searched.
  size_t masks() const { return order_.size(); }
  const Refusals& refused() const { return refused_; }

  // Calls `visit(flow, key, mask)` with up to `max` flows, starting at slot `from`. Returns where to
  // continue, or SlotIndex::kNone at the end. A flow never changes its slot.
  template <typename Visit>
  uint32_t dump(uint32_t from, size_t max, Visit visit) const {
    size_t visited = 0;
    for (uint32_t slot = from; slot < slots_; ++slot) {
      if (visited == max) return slot;
      const Flow& flow = flows_[slot];
      if (flow.table == Flow::kNoTable) continue;
      visit(flow, key_of(slot), tables_[flow.table]->mask);
      ++visited;
    }
    return SlotIndex::kNone;
  }

 private:
  static constexpr size_t kBurst = 32;
  static_assert(kBurst <= UINT8_MAX, "widen the numbers of keys in lookup_burst");

  uint32_t hash(const FlowTable& table, const MaskedKey& key) const;
  bool matches(const FlowTable& table, const MaskedKey& key, uint32_t slot) const;
  uint32_t find(const FlowTable& table, const MaskedKey& key, uint32_t hash) const;
  void lookup_burst(const Words* const* keys, size_t count, Flow** found);
  uint32_t id_hash(uint32_t id) const { return static_cast<uint32_t>(hash_mix(seed_, id)); }
  uint32_t find_id(uint32_t id) const;
  bool is_at(uint32_t slot, uint32_t id) const {
    return slot < slots_ && flows_[slot].id == id && flows_[slot].table != Flow::kNoTable;
  }
  bool put(uint32_t id, const Words& key, const Words& mask, bool of_connections, Program program, double now_ms);
  Words key_of(uint32_t slot) const;
  FlowTable* table_of(const Words& mask, bool of_connections) const;
  FlowTable* add_table(const Words& mask, bool of_connections);
  bool refuse(uint64_t* counter) {
    ++*counter;
    return false;
  }
  uint32_t take_slot();
  void keep_key(uint32_t slot, const FlowTable& table, const MaskedKey& key);

  size_t cap_;
  uint64_t seed_;
  uint64_t secrets_[kKeyWords + 1];
  std::array<std::unique_ptr<FlowTable>, kMaskCap + kConnectionMaskCap> tables_;  // by number
  std::vector<FlowTable*> order_;                              // in search order
  std::vector<FlowTable*> of_connections_;                     // not searched
  ZeroedArray<Flow> flows_;                                    // by slot
  ZeroedArray<FlowTail> tails_;
  uint32_t slots_ = 0;                                         // used so far, including free ones
  uint32_t free_ = SlotIndex::kNone;                           // the first free one
  SlotIndex by_id_;
  Refusals refused_;
};

}  // namespace weft
