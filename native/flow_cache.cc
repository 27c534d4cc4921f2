#include "flow_cache.h"

#include <algorithm>
#include <utility>

namespace weft {

FlowTable::FlowTable(const Words& of, uint8_t as, bool connections) : mask(of), number(as), of_connections(connections) {
  for (size_t i = 0; i < kKeyWords; ++i) {
    if (!mask.at[i]) continue;
    masks[used_count] = mask.at[i];
    used[used_count++] = static_cast<uint8_t>(i);
  }
  hashed_count = std::max<size_t>(used_count + used_count % 2, kHeadWords + 1);
}

void FlowTable::apply(const Words& key, MaskedKey* to) const {
  for (size_t i = 0; i < hashed_count; i += 2) {
    to->at[i] = key.at[used[i]] & masks[i];
    to->at[i + 1] = key.at[used[i + 1]] & masks[i + 1];
  }
}

FlowCache::FlowCache(size_t cap, uint64_t seed)
    : cap_(cap), seed_(seed), flows_(cap), tails_(cap) {
  for (uint64_t& secret : secrets_) secret = seed = hash_mix(seed, 0);
}

FlowCache::~FlowCache() {
  for (uint32_t slot = 0; slot < slots_; ++slot) std::destroy_at(&flows_[slot]);
}

// NH (RFC 4418 §5.2): whether two keys collide depends on the secrets and never on the keys alone. The
// products do not depend on each other.
uint32_t FlowCache::hash(const FlowTable& table, const MaskedKey& key) const {
  unsigned __int128 sum = 0;
  for (size_t i = 0; i < table.hashed_count; i += 2) {
    sum += static_cast<unsigned __int128>(key.at[i] + secrets_[i]) * (key.at[i + 1] + secrets_[i + 1]);
  }
  return static_cast<uint32_t>(hash_mix(static_cast<uint64_t>(sum), static_cast<uint64_t>(sum >> 64)));
}

bool FlowCache::matches(const FlowTable& table, const MaskedKey& key, uint32_t slot) const {
  uint64_t difference = 0;
  for (size_t i = 0; i < kHeadWords; ++i) difference |= key.at[i] ^ flows_[slot].head[i];
  for (size_t i = kHeadWords; i < table.used_count; ++i) difference |= key.at[i] ^ tails_[slot].at[i - kHeadWords];
  return difference == 0;
}

uint32_t FlowCache::find(const FlowTable& table, const MaskedKey& key, uint32_t hash) const {
  return table.index.find(hash, [&](uint32_t slot) { return matches(table, key, slot); });
}

Flow* FlowCache::lookup(const Words& key) {
  for (const FlowTable* table : order_) {
    MaskedKey masked;
    table->apply(key, &masked);
    const uint32_t slot = find(*table, masked, hash(*table, masked));
    if (slot != SlotIndex::kNone) return &flows_[slot];
  }
  return nullptr;
}

void FlowCache::lookup(const Words* const* keys, size_t count, Flow** found) {
  for (size_t from = 0; from < count; from += kBurst) {
    lookup_burst(keys + from, std::min(kBurst, count - from), found + from);
  }
}

void FlowCache::lookup_burst(const Words* const* keys, size_t count, Flow** found) {
  struct Search {
    MaskedKey key;
    uint32_t hash;
    uint32_t slot;
  };
  Search searches[kBurst];
  uint8_t open[kBurst], likely[kBurst];  // of the keys: those not found yet, and those of them with a flow of the same hash
  size_t opens = 0;
  for (; opens < count; ++opens) {
    open[opens] = static_cast<uint8_t>(opens);
    found[opens] = nullptr;
  }
  for (const FlowTable* table : order_) {
    if (opens == 0) return;
    for (size_t i = 0; i < opens; ++i) {
      Search& search = searches[open[i]];
      table->apply(*keys[open[i]], &search.key);
      search.hash = hash(*table, search.key);
      table->index.prefetch(search.hash);
    }
    size_t still = 0, likelies = 0;
    for (size_t i = 0; i < opens; ++i) {
      Search& search = searches[open[i]];
      search.slot = table->index.find(search.hash, [](uint32_t) { return true; });
      if (search.slot == SlotIndex::kNone) {
        open[still++] = open[i];
        continue;
      }
      likely[likelies++] = open[i];
      __builtin_prefetch(&flows_[search.slot], 1);
      if (table->used_count > kHeadWords) {
        const FlowTail& tail = tails_[search.slot];
        __builtin_prefetch(&tail);
        __builtin_prefetch(&tail.at[table->used_count - kHeadWords - 1]);
      }
    }
    for (size_t i = 0; i < likelies; ++i) {
      const Search& search = searches[likely[i]];
      uint32_t slot = search.slot;
      if (!matches(*table, search.key, slot)) slot = find(*table, search.key, search.hash);
      if (slot == SlotIndex::kNone) {
        open[still++] = likely[i];
      } else {
        found[likely[i]] = &flows_[slot];
      }
    }
    opens = still;
  }
}

bool FlowCache::put(uint32_t id, const Words& key, const Words& mask, bool of_connections, Program program,
                    double now_ms) {
  if (const uint32_t known = find_id(id); known != SlotIndex::kNone) {
    flows_[known].program = std::move(program);
    return true;
  }
  FlowTable* table = table_of(mask, of_connections);
  const bool has_table_left = of_connections ? of_connections_.size() < kConnectionMaskCap : masks() < kMaskCap;
  if (!table && flows() >= cap_) return refuse(&refused_.flows);
  if (!table && !has_table_left) return refuse(&refused_.masks);
  if (!table) table = add_table(mask, of_connections);
  MaskedKey masked;
  table->apply(key, &masked);
  const uint32_t hash = this->hash(*table, masked);
  uint32_t slot = of_connections ? SlotIndex::kNone : find(*table, masked, hash);
  if (slot != SlotIndex::kNone) {
    by_id_.erase(id_hash(flows_[slot].id), slot);
  } else {
    if (flows() >= cap_) return refuse(&refused_.flows);
    slot = take_slot();
    keep_key(slot, *table, masked);
    ++table->flows;
    if (!of_connections) table->index.insert(hash, slot);
  }
  Flow& flow = flows_[slot];
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
  Flow& flow = flows_[slot];
  FlowTable* table = tables_[flow.table].get();
  by_id_.erase(id_hash(id), slot);
  if (!table->of_connections) {
    MaskedKey masked;
    table->apply(key_of(slot), &masked);
    table->index.erase(hash(*table, masked), slot);
  }
  flow.program = {};
  flow.table = Flow::kNoTable;
  flow.id = std::exchange(free_, slot);
  if (--table->flows > 0) return;
  std::erase(table->of_connections ? of_connections_ : order_, table);
  tables_[table->number].reset();
}

uint32_t FlowCache::find_id(uint32_t id) const {
  return by_id_.find(id_hash(id), [&](uint32_t slot) { return flows_[slot].id == id; });
}

Words FlowCache::key_of(uint32_t slot) const {
  const Flow& flow = flows_[slot];
  const FlowTable& table = *tables_[flow.table];
  Words key = {};
  for (size_t i = 0; i < table.used_count; ++i) {
    key.at[table.used[i]] = i < kHeadWords ? flow.head[i] : tails_[slot].at[i - kHeadWords];
  }
  return key;
}

void FlowCache::keep_key(uint32_t slot, const FlowTable& table, const MaskedKey& key) {
  Flow& flow = flows_[slot];
  flow.table = table.number;
  std::copy_n(key.at, kHeadWords, flow.head);
  for (size_t i = kHeadWords; i < table.used_count; ++i) tails_[slot].at[i - kHeadWords] = key.at[i];
}

FlowTable* FlowCache::table_of(const Words& mask, bool of_connections) const {
  const std::vector<FlowTable*>& tables = of_connections ? of_connections_ : order_;
  const auto found = std::find_if(tables.begin(), tables.end(), [&](const FlowTable* table) { return table->mask == mask; });
  return found == tables.end() ? nullptr : *found;
}

FlowTable* FlowCache::add_table(const Words& mask, bool of_connections) {
  const auto free = std::find(tables_.begin(), tables_.end(), nullptr);
  *free = std::make_unique<FlowTable>(mask, static_cast<uint8_t>(free - tables_.begin()), of_connections);
  return (of_connections ? of_connections_ : order_).emplace_back(free->get());
}

uint32_t FlowCache::take_slot() {
  if (free_ == SlotIndex::kNone) {
    std::construct_at(&flows_[slots_]);
    return slots_++;
  }
  const uint32_t slot = free_;
  free_ = flows_[slot].id;
  return slot;
}

}  // namespace weft
