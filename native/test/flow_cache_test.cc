// The flow cache and what it is made of, each against its naive twin. Prints what failed and exits 1.
#include <string.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "../action.h"
#include "../flow_cache.h"
#include "../slot_index.h"
#include "check.h"

using namespace weft;

namespace {

Action output(uint32_t port) { return Action{Op::output, {}, port, {}}; }
Action encap(uint32_t vni) { return Action{Op::encap, {}, vni, {9}}; }

// Grows to `most` entries and shrinks to few, again and again, so that every operation also happens at
// every stage of resizing.
void test_slot_index(uint32_t hashes, uint32_t most, int steps) {
  Random random("slot index");
  SlotIndex index;
  std::map<uint32_t, uint32_t> naive;  // slot → hash
  const auto find = [&](uint32_t hash, uint32_t slot) {
    index.prefetch(hash);
    return index.find(hash, [&](uint32_t one) { return one == slot; });
  };
  bool growing = true;
  for (int step = 0; step < steps; ++step) {
    if (naive.size() >= most) growing = false;
    if (naive.size() <= most / 50) growing = true;
    // Few hashes, some at the end of the ring, which makes probe sequences long and lets them wrap around.
    const uint32_t spread = random.below(hashes);
    const uint32_t hash = random.chance(50) ? spread * 0x9e3779b1u : UINT32_MAX - spread % 8;
    const uint32_t slot = random.below(2 * most);
    const auto known = naive.find(slot);
    CHECK(find(known == naive.end() ? hash : known->second, slot) == (known == naive.end() ? SlotIndex::kNone : slot));
    if (known == naive.end() && random.chance(growing ? 90 : 10)) {
      index.insert(hash, slot);
      naive[slot] = hash;
    } else if (known != naive.end() && random.chance(growing ? 10 : 90)) {
      index.erase(known->second, slot);
      naive.erase(known);
    }
    CHECK(index.size() == naive.size());
    if (step % (steps / 200) != 0) continue;
    for (const auto& [one, of] : naive) CHECK(find(of, one) == one);
  }
}

void test_programs() {
  Programs programs;
  const Action flood[] = {output(1), output(2), encap(7)};
  Program one = programs.intern(flood, 3);
  Program same = programs.intern(flood, 3);
  Program other = programs.intern(flood, 2);
  CHECK(programs.size() == 2 && one.begin() == same.begin() && one.size() == 3 && other.size() == 2);
  other = {};
  CHECK(programs.size() == 1);
  one = std::move(same);
  CHECK(programs.size() == 1 && one.begin()[1].argument == 2);
  one = {};
  CHECK(programs.size() == 0);

  CHECK(actions_valid(flood, 3) && !actions_valid(flood, 0));
  const Action drop = {Op::drop, {}, static_cast<uint32_t>(kReasons), {}};
  CHECK(!actions_valid(&drop, 1));
  const Action consume = {Op::consume, {}, 0, {}};
  const Action mixed[] = {consume, output(1)};
  CHECK(actions_valid(&consume, 1) && !actions_valid(mixed, 2));
  const Action unknown = {Op(9), {}, 0, {}};
  CHECK(!actions_valid(&unknown, 1));
  const Action route = {Op::route, {}, 0, {}};
  const Action echo = {Op::echo, {}, 0, {}};
  const Action routed[] = {route, output(1), output(2)};
  const Action twice[] = {echo, route, output(1)};
  const Action late[] = {output(1), route};
  const Action routed_drop[] = {route, {Op::drop, {}, 0, {}}};
  CHECK(actions_valid(routed, 3) && !actions_valid(routed, 1) && !actions_valid(twice, 3));
  CHECK(!actions_valid(late, 2) && !actions_valid(routed_drop, 2));
  const Action limited[] = {{Op::mtu, {}, 1400, {}}, route, output(1)};
  const Action tiny[] = {{Op::mtu, {}, 67, {}}, output(1)};
  const Action behind[] = {route, {Op::mtu, {}, 1400, {}}, output(1)};
  CHECK(actions_valid(limited, 3) && !actions_valid(limited, 2) && !actions_valid(tiny, 2) && !actions_valid(behind, 3));
  const Action clamp = {Op::clamp, {}, 1410, {}};
  const Action clamped[] = {limited[0], route, clamp, output(1)};
  const Action too_late[] = {clamp, route, output(1)};
  const Action between[] = {route, output(1), clamp, output(2)};
  const Action too_much[] = {{Op::clamp, {}, 0x10000, {}}, output(1)};
  CHECK(actions_valid(clamped, 4) && actions_valid(clamped + 2, 2) && !actions_valid(clamped, 3));
  CHECK(!actions_valid(too_late, 3) && !actions_valid(between, 4) && !actions_valid(too_much, 2));
}

// The flow cache as one ordered map for each mask, searched in the order of the masks.
struct NaiveCache {
  struct Entry {
    uint32_t id, argument;
    uint64_t packets;
  };
  using Bytes = std::array<uint64_t, kKeyWords>;
  struct Table {
    Words mask;
    std::map<Bytes, Entry> entries;
  };
  size_t cap;
  std::vector<Table> tables;
  std::map<uint32_t, std::pair<Words, Bytes>> ids;  // mask and masked key
  Refusals refused = {};

  static Bytes masked(const Words& key, const Words& mask) {
    Bytes bytes;
    for (size_t i = 0; i < kKeyWords; ++i) bytes[i] = key.at[i] & mask.at[i];
    return bytes;
  }
  Table* table(const Words& mask) {
    const auto found = std::find_if(tables.begin(), tables.end(), [&](const Table& one) { return one.mask == mask; });
    return found == tables.end() ? nullptr : &*found;
  }
  Entry* lookup(const Words& key) {
    for (Table& table : tables) {
      const auto found = table.entries.find(masked(key, table.mask));
      if (found != table.entries.end()) return &found->second;
    }
    return nullptr;
  }
  bool put(uint32_t id, const Words& key, const Words& mask, uint32_t argument) {
    const Bytes bytes = masked(key, mask);
    if (const auto known = ids.find(id); known != ids.end()) {
      table(known->second.first)->entries.at(known->second.second).argument = argument;
      return true;
    }
    Table* in = table(mask);
    if (in && in->entries.contains(bytes)) {
      ids.erase(in->entries.at(bytes).id);
    } else if (const bool full = ids.size() >= cap; full || (!in && tables.size() >= kMaskCap)) {
      ++(full ? refused.flows : refused.masks);
      return false;
    }
    if (!in) in = &tables.emplace_back(Table{mask, {}});
    in->entries[bytes] = Entry{id, argument, 0};
    ids[id] = {mask, bytes};
    return true;
  }
  void erase(uint32_t id) {
    const auto known = ids.find(id);
    if (known == ids.end()) return;
    Table* in = table(known->second.first);
    in->entries.erase(known->second.second);
    if (in->entries.empty()) tables.erase(tables.begin() + (in - tables.data()));
    ids.erase(known);
  }
};

void check_dump(const FlowCache& cache, const NaiveCache& naive) {
  size_t dumped = 0;
  for (uint32_t from = 0; from != SlotIndex::kNone;) {
    from = cache.dump(from, 7, [&](const Flow& flow, const Words& key, const Words& mask) {
      const auto& [of, bytes] = naive.ids.at(flow.id);
      CHECK(mask == of && memcmp(key.at, bytes.data(), kKeyBytes) == 0);
      ++dumped;
    });
  }
  CHECK(dumped == naive.ids.size());
}

// `alike`: the number of different values that the words of a key have.
void test_flow_cache(size_t cap, size_t mask_count, uint32_t alike, int steps) {
  Random random("flow cache");
  std::vector<Words> masks(mask_count);
  for (Words& mask : masks) {
    const uint32_t percent = random.below(101);
    for (uint64_t& word : mask.at) word = random.chance(percent) ? UINT64_MAX : random.chance(10) ? 0xff : 0;
  }
  const auto some_key = [&] {
    Words words = {};
    for (uint64_t& word : words.at) word = random.chance(30) ? random.below(alike) * 0x0100000000000001u : 0;
    return words;
  };
  Programs programs;
  FlowCache cache(cap, random.below(UINT32_MAX));
  NaiveCache naive = {cap, {}, {}, {}};
  const auto check_hit = [&](const Words& key, Flow* flow) {
    NaiveCache::Entry* entry = naive.lookup(key);
    CHECK(!flow == !entry);
    if (!flow) return;
    CHECK(flow->id == entry->id && flow->program.begin()->argument == entry->argument);
    CHECK(++flow->packets == ++entry->packets);
  };
  const auto ids = static_cast<uint32_t>(cap + cap / 4 + 100);
  // Mostly puts until it is full, then mostly erasures until it is empty, and so on.
  bool filling = true;
  for (int step = 0; step < steps; ++step) {
    if (cache.flows() == cap) filling = false;
    if (cache.flows() <= cap / 20) filling = true;
    const uint32_t id = random.below(ids);
    if (random.chance(40)) {
      const Words key = some_key();
      const Words& mask = masks[random.below(static_cast<uint32_t>(masks.size()))];
      const Action action = output(random.below(5));
      if (random.chance(filling ? 90 : 20)) {
        const bool put = cache.put(id, key, mask, programs.intern(&action, 1), step);
        CHECK(put == naive.put(id, key, mask, action.argument));
      } else {
        cache.erase(id);
        naive.erase(id);
      }
    } else if (random.chance(80)) {
      const Words key = some_key();
      check_hit(key, cache.lookup(key));
    } else {
      std::vector<Words> keys(random.below(70));
      std::vector<const Words*> pointers;
      for (Words& key : keys) {
        key = some_key();
        pointers.push_back(&key);
      }
      std::vector<Flow*> found(keys.size());
      cache.lookup(pointers.data(), keys.size(), found.data());
      for (size_t i = 0; i < keys.size(); ++i) check_hit(keys[i], found[i]);
    }
    CHECK(cache.flows() == naive.ids.size() && cache.masks() == naive.tables.size());
    CHECK(cache.refused().flows == naive.refused.flows && cache.refused().masks == naive.refused.masks);
    if (step % (steps / 20) == 0) check_dump(cache, naive);
  }
  if (random.chance(50)) return;  // the cache is destroyed together with the flows in it
  while (!naive.ids.empty()) {
    const uint32_t id = naive.ids.begin()->first;
    cache.erase(id);
    naive.erase(id);
  }
  CHECK(cache.flows() == 0 && cache.masks() == 0 && programs.size() == 0);
}

// So many flows that some have the same 32 bits of hash. The hash alone is no hit, and the search must
// go on in the next table.
void test_equal_hashes() {
  constexpr uint32_t kFlows = 400000;
  Random random("equal hashes");
  Words all, none = {}, key = {};
  for (uint64_t& word : all.at) word = UINT64_MAX;
  Programs programs;
  FlowCache cache(kFlows + 1, random.below(UINT32_MAX));
  const Action action = output(1);
  for (uint32_t id = 0; id <= kFlows; ++id) {
    key.at[kKeyWords - 1] = id;
    CHECK(cache.put(id, key, id < kFlows ? all : none, programs.intern(&action, 1), 0));
  }
  CHECK(cache.flows() == kFlows + 1);
  for (uint32_t last = 0; last < 2 * kFlows; ++last) {
    key.at[kKeyWords - 1] = last;
    const Words* const one = &key;
    Flow* found;
    cache.lookup(&one, 1, &found);
    CHECK(found && found->id == std::min(last, kFlows) && cache.lookup(key) == found);
  }
}

}  // namespace

int main() {
  test_slot_index(8, 500, 200000);
  test_slot_index(UINT32_MAX, 5000, 500000);
  test_programs();
  test_flow_cache(5, 80, 3, 20000);
  test_flow_cache(60, 80, 3, 20000);
  test_flow_cache(3000, 80, 3, 60000);
  test_flow_cache(20000, 4, 1000, 300000);
  test_equal_hashes();
  printf("flow_cache_test: ok\n");
}
