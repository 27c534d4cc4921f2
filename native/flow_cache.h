// The flow cache: megaflows (a key under a mask) with their actions and
// statistics. Tuple space search: one exact-match table for each distinct mask,
// searched one after the other; the first hit wins.
//
// Masks are few by construction (whole fields) and at most kMaskLimit, so a miss
// costs at most that many probes. A mask goes with its last flow. Tables are
// searched in the order in which their masks came in, never by use: where flows
// overlap, which one is hit must not depend on the traffic.
//
// Nothing expires by itself: whoever decides looks at `last_used_ms` and erases.
// Owned by one datapath; not thread-safe. About 180 bytes a flow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "action.h"
#include "key.h"
#include "slot_index.h"

namespace weft {

inline constexpr size_t kMaskLimit = 64;

class FlowCache;

struct FlowTable {
  explicit FlowTable(const Words& of);

  Words mask;
  uint8_t used[kKeyWords];  // the words that are not wildcarded
  uint8_t used_count = 0;
  SlotIndex index;
};

struct Flow {
  Words key;  // masked
  FlowTable* table = nullptr;  // null: a free slot
  Program program;
  uint64_t packets = 0;
  uint64_t bytes = 0;
  double last_used_ms = 0;
  uint32_t id = 0;
};
static_assert(sizeof(Flow) <= 160);

class FlowCache {
 public:
  // `seed` keys the hashes: who sends frames must not be able to guess it.
  FlowCache(size_t limit, uint64_t seed) : limit_(limit), seed_(seed) {}
  FlowCache(const FlowCache&) = delete;
  FlowCache& operator=(const FlowCache&) = delete;

  // The flow that covers `key`, or null. Valid until the next put or erase.
  Flow* lookup(const Words& key);

  // A known id gets this program and keeps the rest. Equal key and mask under
  // another id: that flow gets this id and program, and starts anew. False when
  // a new flow or mask would go beyond a limit. `key` need not be masked yet.
  bool put(uint32_t id, const Words& key, const Words& mask, Program program, double now_ms);
  void erase(uint32_t id);

  size_t flows() const { return by_id_.size(); }
  size_t masks() const { return tables_.size(); }

  // Calls `visit` with up to `max` flows from slot `from` on. Returns where to go
  // on, or SlotIndex::kNone at the end. A flow never changes its slot.
  template <typename Visit>
  uint32_t dump(uint32_t from, size_t max, Visit visit) const {
    size_t visited = 0;
    for (uint32_t slot = from; slot < slots_; ++slot) {
      if (visited == max) return slot;
      if (!at(slot).table) continue;
      visit(at(slot));
      ++visited;
    }
    return SlotIndex::kNone;
  }

 private:
  static constexpr uint32_t kChunk = 1024;

  const Flow& at(uint32_t slot) const { return chunks_[slot / kChunk][slot % kChunk]; }
  Flow& at(uint32_t slot) { return chunks_[slot / kChunk][slot % kChunk]; }
  uint32_t take_slot();
  uint32_t hash(const FlowTable& table, const Words& key) const;
  uint32_t find(const FlowTable& table, const Words& key, uint32_t hash) const;
  uint32_t id_hash(uint32_t id) const { return static_cast<uint32_t>(hash_mix(seed_, id)); }
  uint32_t find_id(uint32_t id) const;

  size_t limit_;
  uint64_t seed_;
  std::vector<std::unique_ptr<FlowTable>> tables_;  // in search order
  std::vector<std::unique_ptr<Flow[]>> chunks_;     // flows never move
  uint32_t slots_ = 0;                              // used so far, free ones included
  std::vector<uint32_t> free_;
  SlotIndex by_id_;
};

}  // namespace weft
