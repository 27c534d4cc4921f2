#include "flow_cache.h"

#include <algorithm>
#include <utility>

namespace weft {

FlowTable::FlowTable(const Words& of) : mask(of) {
  for (size_t i = 0; i < kKeyWords; ++i) {
    if (mask.at[i]) used[used_count++] = static_cast<uint8_t>(i);
  }
}

uint32_t FlowCache::hash(const FlowTable& table, const Words& key) const {
  uint64_t hash = seed_;
  for (size_t i = 0; i < table.used_count; ++i) {
    const size_t word = table.used[i];
    hash = hash_mix(hash, key.at[word] & table.mask.at[word]);
  }
  return static_cast<uint32_t>(hash);
}

uint32_t FlowCache::find(const FlowTable& table, const Words& key, uint32_t hash) const {
  return table.index.find(hash, [&](uint32_t slot) {
    const Flow& flow = at(slot);
    uint64_t difference = 0;
    for (size_t i = 0; i < table.used_count; ++i) {
      const size_t word = table.used[i];
      difference |= (key.at[word] & table.mask.at[word]) ^ flow.key.at[word];
    }
    return difference == 0;
  });
}

uint32_t FlowCache::find_id(uint32_t id) const {
  return by_id_.find(id_hash(id), [&](uint32_t slot) { return at(slot).id == id; });
}

Flow* FlowCache::lookup(const Words& key) {
  for (const std::unique_ptr<FlowTable>& table : tables_) {
    const uint32_t slot = find(*table, key, hash(*table, key));
    if (slot != SlotIndex::kNone) return &at(slot);
  }
  return nullptr;
}

bool FlowCache::put(uint32_t id, const Words& key, const Words& mask, Program program, double now_ms) {
  if (const uint32_t known = find_id(id); known != SlotIndex::kNone) {
    at(known).program = std::move(program);
    return true;
  }
  const auto found = std::find_if(tables_.begin(), tables_.end(), [&](const auto& table) { return table->mask == mask; });
  FlowTable* table = found == tables_.end() ? nullptr : found->get();
  uint32_t slot = table ? find(*table, key, hash(*table, key)) : SlotIndex::kNone;
  if (slot != SlotIndex::kNone) {
    by_id_.erase(id_hash(at(slot).id), slot);
  } else {
    if (flows() >= limit_ || (!table && masks() >= kMaskLimit)) return false;
    if (!table) table = tables_.emplace_back(std::make_unique<FlowTable>(mask)).get();
    slot = take_slot();
    table->index.insert(hash(*table, key), slot);
  }
  Flow& flow = at(slot);
  for (size_t i = 0; i < kKeyWords; ++i) flow.key.at[i] = key.at[i] & mask.at[i];
  flow.table = table;
  flow.program = std::move(program);
  flow.packets = flow.bytes = 0;
  flow.last_used_ms = now_ms;
  flow.id = id;
  by_id_.insert(id_hash(id), slot);
  return true;
}

void FlowCache::erase(uint32_t id) {
  const uint32_t slot = find_id(id);
  if (slot == SlotIndex::kNone) return;
  Flow& flow = at(slot);
  FlowTable* table = flow.table;
  by_id_.erase(id_hash(id), slot);
  table->index.erase(hash(*table, flow.key), slot);
  flow.table = nullptr;
  flow.program = {};
  free_.push_back(slot);
  if (table->index.size() == 0) std::erase_if(tables_, [&](const auto& one) { return one.get() == table; });
}

uint32_t FlowCache::take_slot() {
  if (!free_.empty()) {
    const uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  if (slots_ % kChunk == 0) chunks_.push_back(std::make_unique<Flow[]>(kChunk));
  return slots_++;
}

}  // namespace weft
