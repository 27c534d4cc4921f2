// The core without threads, kernel or Node: each table against a naive twin, and a datapath with
// random frames, of which none may be lost without a reason. Prints what failed and
// exits 1.
#include <string.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../checksum.h"
#include "../datapath.h"
#include "../extract.h"
#include "../nat.h"
#include "../offload.h"
#include "../vxlan.h"
#include "check.h"

using namespace weft;

namespace {

Action output(uint32_t port) { return Action{Op::output, {}, port, {}}; }

Action encap(uint32_t vni) {
  Action action = {Op::encap, {}, vni, {}};
  action.address[15] = 9;
  return action;
}

// A frame in memory of exactly its size, so that a sanitizer notices any access beyond it.
struct OwnedFrame {
  explicit OwnedFrame(const std::vector<uint8_t>& bytes)
      : storage(new uint8_t[bytes.size()]) {
    std::copy(bytes.begin(), bytes.end(), storage.get());
    frame = {storage.get(), static_cast<uint32_t>(bytes.size()), VnetHdr{}};
  }
  std::unique_ptr<uint8_t[]> storage;
  Frame frame;
};

// Sets the correct checksum of an IPv4 header without options.
void finish_header(std::vector<uint8_t>* frame) {
  uint8_t* l3 = frame->data() + 14;
  store16(l3 + 10, 0);
  OnesSum sum;
  sum.add(l3, 20);
  store16(l3 + 10, sum.checksum());
}

// UDP over IPv4 from 10.0.0.1:`from` to 10.0.0.2:53, followed by 4 bytes of padding.
std::vector<uint8_t> udp4(uint16_t from, uint8_t mark = 0) {
  std::vector<uint8_t> frame = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
  const uint8_t packet[] = {0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
                            static_cast<uint8_t>(from >> 8), static_cast<uint8_t>(from), 0, 53, 0, 9, 0, 0, mark};
  frame.insert(frame.end(), packet, packet + sizeof packet);
  frame.resize(frame.size() + 4);
  finish_header(&frame);
  return frame;
}

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

void test_pending() {
  PendingTable pending(7, 3);
  OwnedFrame frame(udp4(1));
  Key key = {};
  CHECK(pending.find(Words::of(key)) == PendingTable::kNone);
  CHECK(pending.open(1, key, frame.frame) == kNoDrop);
  const uint32_t handle = pending.find(Words::of(key));
  for (size_t i = 1; i < kParkedPerFlow; ++i) {
    frame.frame.data[42] = static_cast<uint8_t>(i);
    CHECK(pending.park(handle, frame.frame) == kNoDrop);
  }
  CHECK(pending.park(handle, frame.frame) == Reason::upcall_parked_full && pending.held() == kParkedPerFlow);
  UpcallRecord upcall[2];
  CHECK(pending.take_upcalls(upcall, 2) == 1 && pending.take_upcalls(upcall, 2) == 0 && !pending.upcalls_wait());
  CHECK(upcall[0].token < 9007199254740992.0 && upcall[0].length == frame.frame.length);
  const auto token = static_cast<Token>(upcall[0].token);
  CHECK(pending.release(token + 1).frames.empty() && pending.release(token + (1u << 20)).frames.empty());
  const auto released = pending.release(token);
  CHECK(released.frames.size() == kParkedPerFlow && released.port == 1);
  for (size_t i = 0; i < released.frames.size(); ++i) CHECK(released.frames[i].frame().data[42] == i);
  CHECK(pending.release(token).frames.empty() && pending.held() == 0);
  CHECK(pending.find(Words::of(key)) == PendingTable::kNone);

  // The slot is used again, but the old token stays stale.
  CHECK(pending.open(1, key, frame.frame) == kNoDrop && pending.release(token).frames.empty() && pending.drop_port(1) == 1);
  CHECK(!pending.upcalls_wait() && pending.held() == 0);

  for (uint32_t i = 0; i < kPendingPerPort + 3; ++i) {
    store32(key.tun_vni, i);
    CHECK(pending.open(2, key, frame.frame) == (i < kPendingPerPort ? kNoDrop : Reason::upcall_queue_full));
  }
  store32(key.tun_vni, 1u << 20);
  CHECK(pending.open(3, key, frame.frame) == kNoDrop);
  CHECK(pending.drop_port(2) == kPendingPerPort && pending.drop_port(3) == 1);
}

void test_vxlan_and_checksum() {
  OwnedFrame owned(udp4(5));
  std::vector<uint8_t> bytes(kVxlanBytes + owned.frame.length);
  vxlan_header(bytes.data(), 0xabcdef);
  CHECK(memcmp(bytes.data(), "\x08\0\0\0\xab\xcd\xef\0", 8) == 0);
  const Frame payload = {bytes.data(), static_cast<uint32_t>(bytes.size()), {}};
  Frame inner = payload;
  uint32_t vni = 0;
  CHECK(vxlan_decap(&inner, &vni) && vni == 0xabcdef && inner.data == bytes.data() + 8);
  Frame cut = payload;
  cut.length = kVxlanBytes + kEthernetBytes - 1;
  CHECK(!vxlan_decap(&cut, &vni));
  bytes[0] = 0xf7;
  cut = payload;
  CHECK(!vxlan_decap(&cut, &vni) && cut.data == bytes.data());

  // Compares the sum with one of 16-bit words, for any length.
  Random random("checksum");
  for (int i = 0; i < 2000; ++i) {
    std::vector<uint8_t> some(random.below(200));
    for (uint8_t& byte : some) byte = static_cast<uint8_t>(random.chance(30) ? 0xff : random.below(256));
    uint64_t naive = 0;
    for (size_t at = 0; at < some.size(); ++at) naive += some[at] << (at % 2 ? 0 : 8);
    while (naive >> 16) naive = (naive & 0xffff) + (naive >> 16);
    OnesSum sum;
    sum.add(some.data(), some.size());
    CHECK(sum.folded() == naive);
  }

  // A sum of only the pseudo header is unfinished, and a finished checksum stays: 10.0.0.1 + 10.0.0.2 + 17 + 9.
  Key key;
  Layout layout;
  CHECK(extract(owned.frame.data, owned.frame.length, &key, &layout) == kNoDrop && layout.length == 43 && layout.l4 == 34);
  owned.frame.length = layout.length;
  uint8_t* checksum = owned.frame.data + 14 + 20 + 6;
  store16(checksum, 0x0a00 + 1 + 0x0a00 + 2 + 17 + 9);
  mark_unfinished(&owned.frame, key, layout.l4);
  CHECK(owned.frame.vnet == (VnetHdr{kNeedsCsum, 0, 0, 0, 34, 6}));
  const Segments finished(owned.frame);
  CHECK(finished.count() == 1 && finished.header_bytes() == 42);
  uint8_t headers[42];
  finished.headers(0, headers);
  memcpy(owned.frame.data, headers, sizeof headers);
  OnesSum sum = pseudo_sum(owned.frame.data + 14, true, 17, 9);
  sum.add(owned.frame.data + 34, 9);
  CHECK(sum.folded() == 0xffff);
  owned.frame.vnet = {};
  mark_unfinished(&owned.frame, key, layout.l4);
  CHECK(owned.frame.vnet == VnetHdr{});
}

void check_conservation(const Datapath& datapath) {
  CHECK(is_conserved(datapath.counters(), datapath.held()));
}

void add_port(Datapath* datapath, uint16_t number, PortKind kind) {
  auto port = std::make_unique<Port>();
  port->number = number;
  port->kind = kind;
  port->local[15] = 1;
  CHECK(datapath->add_port(std::move(port)) == 0);
}

// Compares it with a list of the parts that came.
void test_coverage() {
  Random random("coverage");
  for (int round = 0; round < 300; ++round) {
    Coverage coverage;
    std::vector<std::pair<uint32_t, uint32_t>> parts;
    const uint32_t units = random.chance(50) ? 200 : 8192;
    for (int step = 0; step < 100; ++step) {
      const uint32_t from = random.below(units);
      const uint32_t to = std::min(units, from + 1 + random.below(random.chance(80) ? units / 20 : units));
      bool same = false, overlaps = false;
      for (const auto& [a, b] : parts) {
        same = same || (a == from && b == to);
        overlaps = overlaps || (a < to && from < b);
      }
      CHECK(coverage.has(from, to) == same && coverage.overlaps(from, to) == overlaps);
      for (const auto& [a, b] : parts) CHECK(coverage.has(a, b) && coverage.overlaps(b - 1, b));
      if (overlaps) continue;
      coverage.add(from, to);
      parts.emplace_back(from, to);
    }
  }
}

// UDP over IPv4: a part of one of few datagrams.
std::vector<uint8_t> fragment4(Random* random) {
  std::vector<uint8_t> frame = udp4(static_cast<uint16_t>(random->below(40)));
  frame.resize(14 + 20 + 16);
  store16(frame.data() + 16, 20 + 16);
  store16(frame.data() + 18, random->chance(70) ? random->below(10) : random->below(10000));
  const uint32_t unit = 2 * random->below(6) + random->chance(2);
  store16(frame.data() + 20, unit | (unit < 10 ? 0x2000 : 0));
  finish_header(&frame);
  return frame;
}

// Answers upcalls with random flows and actions, some late and some never.
void test_datapath() {
  Random random("datapath");
  uint64_t transmitted = 0;
  MemoryHooks hooks;
  hooks.transmit = [&](uint16_t, const Frame& frame) { transmitted += frame.length > 0; };
  hooks.transmit_datagram = [&](uint16_t, const uint8_t*, uint32_t, uint8_t, const iovec* payload) {
    transmitted += payload[0].iov_len + payload[1].iov_len > kVxlanBytes;
  };
  alignas(64) static Connection memory[1 + 24] = {};
  ConnectionTable connections(reinterpret_cast<uint8_t*>(memory), sizeof memory, {20, 10, 6}, 7);
  // A connection that actions name, but that no frame belongs to.
  ConnectionOpening named = {{1, 0}, 17, ConnectionKind::translated, {}, {}, {}};
  for (Tuple* tuple : {&named.original, &named.translated}) {
    memcpy(tuple->source, nat::kMappedPrefix, sizeof nat::kMappedPrefix);
    memcpy(tuple->destination, nat::kMappedPrefix, sizeof nat::kMappedPrefix);
  }
  CHECK(connections.open(named, 1000, 0, {ConnectionTable::kNone, ConnectionTable::kNone}) == 0);
  Datapath datapath(50, &connections, 1, 0, hooks);
  for (uint16_t port = 1; port <= 3; ++port) {
    add_port(&datapath, port, PortKind::memory);
    datapath.port(port)->place = 1;
  }
  add_port(&datapath, 4, PortKind::memory_vxlan);
  datapath.port(3)->ingress = bucket_of({.per_second = 5000, .burst = 100, .queue = 2000});
  datapath.port(1)->egress = bucket_of({.per_second = 5000, .burst = 100, .queue = 2000});
  datapath.port(1)->storm = bucket_of({.per_second = 20, .burst = 5});
  const Rate upcalls = {.per_second = 2000, .burst = 40};
  datapath.port(3)->upcalls = std::make_unique<UpcallRate>(upcalls, 1, std::make_shared<UpcallBuckets>(upcalls));
  std::vector<uint32_t> ids;
  uint32_t last_id = 0;
  for (int step = 0; step < 100000; ++step) {
    std::vector<uint8_t> bytes = udp4(static_cast<uint16_t>(random.below(40)));
    if (random.chance(30)) bytes = fragment4(&random);
    if (random.chance(20)) bytes[random.below(static_cast<uint32_t>(bytes.size()))] ^= 1u << random.below(8);
    if (random.chance(5)) bytes.resize(random.below(static_cast<uint32_t>(bytes.size()) + 1));
    const bool tunnel = random.chance(20);
    if (tunnel) bytes.insert(bytes.begin(), {8, 0, 0, 0, 0, 0, static_cast<uint8_t>(random.below(2)), 0});
    OwnedFrame owned(bytes);
    if (random.chance(2)) owned.frame.vnet.gso_type = 1;
    // First slowly, so that there are too many datagrams, then fast, so that they get too old.
    datapath.set_now(step < 50000 ? step / 4 : step);
    datapath.release();
    UnderlaySource source = {};
    source.address[15] = static_cast<uint8_t>(random.below(3));
    source.tos = static_cast<uint8_t>(random.below(256));
    const auto port = static_cast<uint16_t>(tunnel ? 4 : 1 + random.below(3));
    const size_t arrivals = tunnel ? datapath.receive_datagrams(port, &source, &owned.frame, 1)
                                   : datapath.receive(port, &owned.frame, 1);
    for (size_t i = 0; i < arrivals; ++i) datapath.forward(port, i);
    const Action first = random.chance(50)   ? Action{Op::nat, {}, random.below(3), {2}}
                         : random.chance(30) ? Action{Op::related, {}, random.below(3), {2}}
                         : random.chance(30) ? Action{Op::nat, {}, 0, {}}
                                             : Action{Op::track, {}, 1, {static_cast<uint8_t>(random.below(250))}};
    const Action some[] = {first, output(1 + random.below(5)),
                           encap(random.below(100)), output(1 + random.below(3))};
    const bool translated = random.chance(20);
    const Action* actions = some + !translated;
    const size_t count = translated + 1 + random.below(3);
    if (random.chance(1)) datapath.originate(owned.frame, actions, count);
    if (random.chance(10)) datapath.flow_del(last_id - random.below(60));
    if (random.chance(1) && random.chance(5)) {
      CHECK(datapath.take_port(2));
      add_port(&datapath, 2, PortKind::memory);
      datapath.port(2)->place = 1;
    }
    if (random.chance(1)) connections.close(1 + random.below(23));
    if (random.chance(1)) CHECK(connections.expire(step).empty());
    if (!random.chance(30)) continue;
    UpcallRecord upcalls[8];
    const size_t taken = datapath.take_upcalls(upcalls, 1 + random.below(8));
    for (size_t i = 0; i < taken; ++i) {
      if (random.chance(70)) {
        Key mask = {};
        memset(mask.in_port, 0xff, sizeof mask.in_port);
        if (random.chance(80)) memset(mask.l4_src, 0xff, 2);
        const bool of_connections = random.chance(20);
        datapath.flow_put(++last_id, Words::of(upcalls[i].key), Words::of(mask), actions, count, of_connections);
      }
      if (random.chance(98)) datapath.execute(static_cast<Token>(upcalls[i].token), actions, count);
    }
    check_conservation(datapath);
  }
  CHECK(datapath.counters().tx == transmitted && transmitted > 10000);
  CHECK(datapath.counters().upcalls > 1000);
  for (const Reason reason : {Reason::connection_gone, Reason::icmp_unrelated, Reason::ipv4_checksum,
                              Reason::rate_limit_ingress, Reason::rate_limit_egress, Reason::storm_control}) {
    CHECK(datapath.counters().drops[static_cast<size_t>(reason)] > 10);
  }
  for (const Reason reason : {Reason::fragment_overlap, Reason::fragment_duplicate, Reason::fragment_limit,
                              Reason::fragment_timeout}) {
    CHECK(datapath.counters().drops[static_cast<size_t>(reason)] > 10);
  }
  CHECK(memory[1].halves[0].packets > 10 && memory[1].halves[1].packets == 0);
  CHECK(connections.opened() > 100 && connections.size() <= 20);
  for (uint16_t number : datapath.port_numbers()) datapath.take_port(number);
  CHECK(datapath.held() == 0);
  check_conservation(datapath);
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
  test_pending();
  test_vxlan_and_checksum();
  test_coverage();
  test_datapath();
  printf("core_test: ok\n");
}
