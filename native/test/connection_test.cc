// The table of connections: what it finds, compared with a plain map; room and time; after a crash;
// and with threads that find, open and close connections at the same time.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../connection_table.h"
#include "check.h"

using namespace weft;

namespace {

constexpr uint32_t kNone = ConnectionTable::kNone;

// Memory for a number of records.
class Memory {
 public:
  explicit Memory(size_t records) : records_(new (std::align_val_t(64)) Connection[records + 1]()), count_(records) {}
  ~Memory() { ::operator delete[](records_, std::align_val_t(64)); }
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(records_); }
  size_t size() const { return (count_ + 1) * sizeof(Connection); }
  Connection& operator[](size_t slot) { return records_[slot + 1]; }

 private:
  Connection* records_;
  size_t count_;
};

// IPv4 addresses 10.0.0.x and small ports, so that tuples repeat.
Tuple tuple_of(uint32_t source, uint32_t destination, uint32_t source_port, uint32_t destination_port) {
  Tuple tuple = {};
  tuple.source[10] = tuple.source[11] = tuple.destination[10] = tuple.destination[11] = 0xff;
  store32(tuple.source + 12, 0x0a000000 + source);
  store32(tuple.destination + 12, 0x0a000000 + destination);
  store16(tuple.source_port, source_port);
  store16(tuple.destination_port, destination_port);
  return tuple;
}

TupleKey key_of(const Tuple& tuple, uint32_t place) { return {tuple, place, 17}; }

std::string text(const TupleKey& key) { return std::string(reinterpret_cast<const char*>(&key), sizeof key); }

ConnectionOpening translated(const Tuple& original, const Tuple& translated) {
  return {{1, kOutside}, 17, ConnectionKind::translated, {}, original, translated, 0, {}, 0};
}

// Random openings and closings. Each tuple must be found as in a map.
void test_finding() {
  Random random("finding");
  constexpr uint32_t kRecords = 64;
  Memory memory(kRecords);
  ConnectionTable table(memory.bytes(), memory.size(), {60, 60, 60}, random.below(1u << 30));
  std::map<std::string, uint32_t> handles;
  std::map<uint32_t, std::vector<std::string>> names;
  const auto forget = [&](uint32_t slot) {
    for (const std::string& name : names[slot]) handles.erase(name);
    names.erase(slot);
  };
  const auto some = [&] { return tuple_of(random.below(3), random.below(3), random.below(6), random.below(6)); };
  size_t opened = 0, known = 0;
  for (int step = 0; step < 200'000; ++step) {
    if (random.chance(45)) {
      const uint32_t slot = random.below(kRecords);
      table.close(slot);
      forget(slot);
    } else if (names.size() < 60) {
      const ConnectionOpening opening = translated(some(), some());
      const TupleKey original = key_of(opening.original, 1), reply = key_of(turned(opening.translated), kOutside);
      const uint32_t slot = table.open(opening, random.below(4), step, {});
      if (slot == kNone) {
        CHECK(handles.count(text(original)) || handles.count(text(reply)));
        ++known;
      } else {
        CHECK(handles.emplace(text(original), slot * 2).second && handles.emplace(text(reply), slot * 2 + 1).second);
        names[slot] = {text(original), text(reply)};
        ++opened;
      }
    }
    const TupleKey key = key_of(some(), random.chance(50) ? 1 : kOutside);
    const auto expected = handles.find(text(key));
    CHECK(table.find_handle(key) == (expected == handles.end() ? kNone : expected->second));
    const ConnectionTable::Found found = table.find(key);
    CHECK(found ? found.slot * 2 + found.reply == expected->second && found.is_open() : expected == handles.end());
    CHECK(table.size() == names.size());
  }
  CHECK(opened > 1000 && known > 1000);
}

// Random connections between networks. What their clients send with the ends that one goes on with is found as such, unless a
// connection has it.
void test_taken() {
  Random random("taken");
  constexpr uint32_t kRecords = 64;
  Memory memory(kRecords);
  ConnectionTable table(memory.bytes(), memory.size(), {60, 60, 60}, random.below(1u << 30));
  std::set<std::string> known;
  std::multiset<std::string> goes_on;
  std::map<uint32_t, ConnectionOpening> open;
  const auto names = [](const ConnectionOpening& of, bool reply) {
    return text(reply ? key_of(turned(of.translated), of.places[1]) : key_of(of.original, of.places[0]));
  };
  const auto some = [&] { return tuple_of(random.below(3), random.below(3), random.below(4), random.below(4)); };
  size_t taken = 0;
  for (int step = 0; step < 100'000; ++step) {
    const uint32_t at = random.below(kRecords);
    if (const auto one = open.find(at); one != open.end() && random.chance(60)) {
      const ConnectionOpening& of = one->second;
      for (const bool reply : {false, true}) known.erase(names(of, reply));
      if (of.places[1] != kOutside && !of.via[0]) goes_on.erase(goes_on.find(text(key_of(of.translated, of.places[0]))));
      table.close(at);
      open.erase(one);
    } else if (open.size() < 50) {
      ConnectionOpening of = translated(some(), some());
      of.places[1] = random.chance(20) ? kOutside : 1 + random.below(2);
      of.via[0] = random.chance(20);
      const uint32_t slot = table.open(of, random.below(4), step, {});
      if (slot != kNone) {
        for (const bool reply : {false, true}) known.insert(names(of, reply));
        if (of.places[1] != kOutside && !of.via[0]) goes_on.insert(text(key_of(of.translated, of.places[0])));
        open.emplace(slot, of);
      }
    }
    const TupleKey key = key_of(some(), 1);
    const bool expected = !known.count(text(key)) && goes_on.count(text(key));
    CHECK(table.is_taken(key) == expected && table.find(key).taken == expected);
    taken += expected;
  }
  CHECK(taken > 1000);
  for (const auto& [slot, of] : open) table.close(slot);
  CHECK(!table.has_any_in(1) && !table.has_any_in(2) && !table.has_any_in(kOutside));
}

// Tuples that are all looked for in the last buckets of the index, in both directions, so that these overflow into those
// behind and into the first ones.
std::vector<Tuple> crowded(const ConnectionTable& table, size_t count) {
  std::vector<Tuple> tuples;
  for (uint32_t i = 0; tuples.size() < count; ++i) {
    const Tuple tuple = tuple_of(1, 2, i >> 8, i & 0xff);
    const auto is_last = [&](const Tuple& one) { return table.hash(key_of(one, 1)) >= 0xf0000000; };
    if (is_last(tuple) && is_last(turned(tuple))) tuples.push_back(tuple);
  }
  return tuples;
}

// Random openings and closings where buckets are full.
void test_full_buckets() {
  Random random("full buckets");
  constexpr uint32_t kRecords = 64, kTuples = 80;
  Memory memory(kRecords);
  ConnectionTable table(memory.bytes(), memory.size(), {60, 60, 60}, random.below(1u << 30));
  const std::vector<Tuple> tuples = crowded(table, kTuples);
  std::map<uint32_t, uint32_t> slots;  // by number of the tuple
  for (int step = 0; step < 50'000; ++step) {
    const uint32_t one = random.below(kTuples);
    const auto known = slots.find(one);
    if (known != slots.end() && random.chance(step % 5000 < 2500 ? 30 : 70)) {
      table.close(known->second);
      slots.erase(known);
    } else if (known == slots.end() && slots.size() < 60) {
      slots[one] = table.open(key_of(tuples[one], 1), 1, random.below(4), step).slot;
    }
    for (uint32_t i = 0; i < kTuples; ++i) {
      const auto expected = slots.find(i);
      const ConnectionTable::Found found = table.find(key_of(tuples[i], 1));
      const ConnectionTable::Found reply = table.find(key_of(turned(tuples[i]), 1));
      CHECK(found.slot == (expected == slots.end() ? kNone : expected->second) && !found.reply);
      CHECK(reply.slot == found.slot && reply.reply == static_cast<bool>(found));
    }
  }
  CHECK(table.opened() > 10'000);
}

// Of UDP that weft has ended, what its backend still sends is found, also after a crash, and its client begins anew.
void test_ended() {
  Memory memory(16);
  const Tuple original = tuple_of(1, 9, 5, 80);
  const TupleKey client = key_of(original, 1), late = key_of(turned(tuple_of(1, 2, 5, 80)), kOutside);
  const auto other = [&](uint32_t backend) { return translated(original, tuple_of(1, backend, 5, 80)); };
  {
    ConnectionTable table(memory.bytes(), memory.size(), {16, 16, 16}, 1);
    CHECK(table.open(other(2), 70'000, 5, {}) == 0);
    memory[0].half(true).flow = 7;
    table.end(0, 9);
    table.end(0, 9);
    CHECK(table.find_handle(client) == kNone && table.find_handle(late) == 1 && memory[0].half(true).flow == 0);
    CHECK(table.open(other(2), 70'000, 5, {}) == kNone);
    CHECK(table.open(other(3), 70'000, 5, {}) == 1 && table.find_handle(client) == 2);
  }
  ConnectionTable table(memory.bytes(), memory.size(), {16, 16, 16}, 2);
  CHECK(table.recover(100) == (std::vector<uint32_t>{0, 1}));
  table.adopt(0, 70'000);
  table.adopt(1, 70'000);
  CHECK(table.find_handle(client) == 2 && table.find_handle(late) == 1);
  CHECK(table.expire(30'099).empty() && table.expire(30'100) == std::vector<uint32_t>{0});
  table.close(0);
  CHECK(table.find_handle(late) == kNone && table.find_handle(client) == 2 && table.size() == 1);
  table.close(1);
  CHECK(!table.has_any_in(1) && !table.has_any_in(kOutside));
}

// A packet of an end to itself is of the original direction, however full its bucket is.
void test_one_end() {
  constexpr uint32_t kRecords = 64;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    Memory memory(kRecords);
    ConnectionTable table(memory.bytes(), memory.size(), {60, 60, 60}, seed);
    const std::vector<Tuple> others = crowded(table, 40);
    Tuple itself = tuple_of(1, 1, 7, 7);
    for (uint32_t port = 0; table.hash(key_of(itself, 1)) < 0xf0000000; ++port) itself = tuple_of(1, 1, port, port);
    std::vector<uint32_t> slots;
    for (const Tuple& other : others) slots.push_back(table.open(key_of(other, 1), 1, 1, 0).slot);
    const uint32_t slot = table.open(key_of(itself, 1), 1, 1, 0).slot;
    for (const uint32_t other : slots) {
      table.close(other);
      CHECK(table.find_handle(key_of(itself, 1)) == slot * 2);
    }
    table.close(slot);
    CHECK(!table.has_any_in(1) && table.find_handle(key_of(itself, 1)) == kNone);
  }
}

// Workers open only tracked connections, never give up translated ones, and have a quota.
void test_room() {
  Memory memory(64);
  ConnectionTable table(memory.bytes(), memory.size(), {40, 10, 5}, 1);
  for (uint32_t i = 0; i < 20; ++i) {
    CHECK(table.open(key_of(tuple_of(1, 2, i, 80), 1), 1, 3, 0));
  }
  CHECK(table.size() == 5);  // none is answered
  for (uint32_t i = 15; i < 20; ++i) CHECK(table.find(key_of(tuple_of(1, 2, i, 80), 1)));
  const auto answer = [&] {
    for (size_t slot = 0; slot < 64; ++slot) {
      for (const bool reply : {false, true}) memory[slot].half(reply).packets = 1;
    }
  };
  answer();
  for (uint32_t i = 20; i < 25; ++i) CHECK(table.open(key_of(tuple_of(1, 2, i, 80), 1), 1, 3, 0));
  answer();
  CHECK(!table.open(key_of(tuple_of(1, 2, 99, 80), 1), 1, 3, 0));
  CHECK(table.open(key_of(tuple_of(1, 2, 99, 80), 1), 1, 4, 0));

  // All slots but one are taken by translated connections.
  for (uint32_t i = 0; table.size() < 40; ++i) {
    CHECK(table.open(translated(tuple_of(3, 4, i, 1), tuple_of(5, 4, i, 1)), 100'000, 0, {}) != kNone);
  }
  const size_t unanswered = 29;  // and that of owner 4, which is tracked
  std::set<uint32_t> left;
  for (uint32_t slot : table.owned(100'000)) left.insert(slot);
  CHECK(left.size() == unanswered);
  for (uint32_t i = 0; i < 10; ++i) table.open(key_of(tuple_of(6, 7, i, 1), 1), 1, 5, 0);
  for (uint32_t slot : table.owned(100'000)) CHECK(left.erase(slot) == 1);
  CHECK(left.empty());
  const uint32_t owner = 100'000;
  CHECK(table.room(&owner, 1, 29, 100) != kNone);  // other openers may give up any connection
}

// When a worker says nothing for a while, slots that were freed since are not taken again. Half of the spare ones are left to
// those that are not only tracked.
void test_spare() {
  constexpr uint32_t kLimit = 8, kSpare = 8;
  Memory memory(kLimit + kSpare);
  ConnectionTable table(memory.bytes(), memory.size(), {kLimit, kLimit, kLimit}, 1);
  uint32_t port = 0;
  double now_ms = 0;
  const auto begin = [&] { return table.open(key_of(tuple_of(1, 2, ++port, 80), 1), 1, 3, ++now_ms); };
  while (table.size() < kLimit) CHECK(begin());
  for (uint32_t i = 0; i < 3 * kSpare; ++i) CHECK(begin());  // nobody holds anything
  table.enter(0);
  uint32_t opened = 0;
  while (begin()) ++opened;
  CHECK(opened == kSpare / 2 + 1 && table.size() == kLimit);
  const uint32_t owner = 100'000;
  for (; opened < kSpare; ++opened) {
    ConnectionTable::GivenUp given_up;
    given_up.slot = table.room(&owner, 1, kLimit, kLimit, &given_up.generation);
    const Tuple tuple = tuple_of(3, 4, ++port, 1);
    CHECK(table.open(translated(tuple, tuple), owner, 0, {given_up, {}}) != kNone);
  }
  CHECK(!begin());
  table.pass(0);
  CHECK(begin());
  table.leave(0);
}

// Ports open connections that stay in use, some many and some few, and the table is full. Each gets one of the port that has the
// most, as long as that has more than it would have then itself, and nobody else gets one.
void test_guaranteed() {
  Random random("guaranteed");
  constexpr uint32_t kLimit = 400, kGuaranteed = 20, kPorts = 30;
  Memory memory(kLimit + 8);
  ConnectionTable table(memory.bytes(), memory.size(), {kLimit, kLimit, kLimit, kGuaranteed, 0}, 1);
  const auto sizes = [&] {
    std::vector<uint32_t> sizes(kPorts, 0);
    for (uint32_t slot = 0; slot < memory.size() / sizeof(Connection) - 1; ++slot) {
      if (memory[slot].generation) ++sizes[memory[slot].owner];
    }
    return sizes;
  };
  size_t taken = 0, refused = 0;
  double now_ms = 0;
  for (uint32_t step = 0; step < 40'000; ++step) {
    const uint32_t port = std::min(random.below(kPorts), random.below(kPorts));
    const std::vector<uint32_t> before = sizes();
    const bool is_full = table.size() == kLimit;
    const uint32_t most = *std::max_element(before.begin(), before.end());
    const bool gets_one = !is_full || most > before[port] + 1;
    const ConnectionTable::Found found = table.open(key_of(tuple_of(port, 200, step, step >> 16), 1), 1, port, ++now_ms);
    CHECK(static_cast<bool>(found) == gets_one);
    if (found) {
      for (const bool reply : {false, true}) found.at->half(reply) = {1e9, 1, 1, 0, 0, 0, 0, 0, {}, 0};
      if (is_full) {
        const std::vector<uint32_t> after = sizes();
        uint32_t lost = kPorts;
        for (uint32_t i = 0; i < kPorts; ++i) {
          if (after[i] < before[i]) lost = i;
        }
        CHECK(lost < kPorts && before[lost] == most && after[port] == before[port] + 1);
        ++taken;
      }
    } else {
      ++refused;
    }
    if (random.chance(1)) CHECK(table.close_owned(random.below(kPorts), 7, table.latest()) <= 7);
    if (random.chance(3)) table.close(random.below(kLimit));
  }
  CHECK(taken > 100 && refused > 1000);
}

// Who has been called calls with the same ends: that takes the place of what is over, and disturbs nothing that is not.
void test_against() {
  Memory memory(8);
  ConnectionTable table(memory.bytes(), memory.size(), {8, 8, 8}, 1);
  const Tuple there = tuple_of(1, 2, 3, 4);
  const TupleKey key = {there, 1, 6}, back = {turned(there), 1, 6};
  const ConnectionTable::Found first = table.open(key, 1, 1, 0, true);
  CHECK(first && !first.reply && table.open(key, 1, 1, 0, true).slot == first.slot);
  const ConnectionTable::Found reply = table.open(back, 1, 2, 0, false);
  CHECK(reply.slot == first.slot && reply.reply);
  const ConnectionTable::Found refused = table.open(back, 1, 2, 0, true);
  CHECK(!refused && first.is_open() && table.size() == 1);
  memory[first.slot].half(true).seen = kSeenRst;
  const ConnectionTable::Found next = table.open(back, 1, 2, 0, true);
  CHECK(next && !next.reply && !first.is_open() && table.size() == 1);
  CHECK(table.owned(1).empty() && table.owned(2) == std::vector<uint32_t>{next.slot});
  memory[next.slot].half(true).packets = 1;
  const ConnectionTable::Found anew = table.open(back, 1, 2, 0, true);
  CHECK(anew && !next.is_open() && table.size() == 1 && table.latest() == anew.generation);
  CHECK(table.open(key, 1, 1, 0, false).reply && table.open(back, 1, 2, 0, true).slot == anew.slot);
}

void test_time() {
  Memory memory(8);
  ConnectionTable table(memory.bytes(), memory.size(), {8, 8, 8}, 1);
  const ConnectionTable::Found tracked = table.open({tuple_of(1, 2, 3, 4), 1, 6}, 1, 1, 1000);
  ConnectionOpening other = translated(tuple_of(1, 2, 5, 4), tuple_of(9, 2, 5, 4));
  other.protocol = 6;
  CHECK(table.open(other, 70'000, 1000, {}) == 1);
  for (size_t slot : {0, 1}) {
    for (const bool reply : {false, true}) memory[slot].half(reply) = {1000, 2, 100, 0, 0, kSeenAck | kSeenFin, 0, 0, {}, 0};
  }
  CHECK(table.expire(10'999).empty() && tracked.is_open());
  CHECK(table.expire(11'000).empty() && !tracked.is_open());  // a tracked TCP connection waits 10 s
  CHECK(table.expire(240'999).empty() && table.size() == 1);
  CHECK(table.expire(241'000) == std::vector<uint32_t>{1} && table.size() == 1);  // its owner must close it
}

void test_recovery() {
  Memory memory(16);
  {
    ConnectionTable table(memory.bytes(), memory.size(), {16, 16, 16}, 1);
    for (uint32_t i = 0; i < 4; ++i) CHECK(table.open(key_of(tuple_of(1, 2, i, 80), 1), 1, 3, 5));
    CHECK(table.open(translated(tuple_of(3, 4, 9, 1), tuple_of(5, 4, 9, 1)), 70'000, 5, {}) == 4);
  }
  memory[1].generation = 7;      // it was being written
  memory[2].protocol = 99;       // nonsense: it has no ports
  memory[0].half(0).flow = 5;  // a flow of another cache
  ConnectionTable table(memory.bytes(), memory.size(), {16, 16, 16}, 2);
  CHECK(table.recover(100) == std::vector<uint32_t>{4});
  table.adopt(4, 80'000);
  CHECK(table.size() == 3 && table.owned(80'000) == std::vector<uint32_t>{4});
  CHECK(table.owned(3) == (std::vector<uint32_t>{0, 3}));
  CHECK(table.find(key_of(tuple_of(1, 2, 0, 80), 1)) && !table.find(key_of(tuple_of(1, 2, 1, 80), 1)));
  CHECK(memory[0].half(0).flow == 0 && memory[0].half(1).last_seen_ms == 100);
  const ConnectionTable::Found next = table.open(key_of(tuple_of(1, 2, 1, 80), 1), 1, 3, 5);
  CHECK(next.slot == 1 && next.generation > memory[4].generation);
}

// Workers open and use connections while others close some of them, and end some. What a worker has found must stay the
// same until the worker says that it holds nothing.
void test_threads() {
  constexpr uint32_t kWorkers = 3, kRounds = 60'000;
  Memory memory(48);
  ConnectionTable table(memory.bytes(), memory.size(), {40, 16, 8}, 1);
  const std::vector<Tuple> tuples = crowded(table, 51);
  const ConnectionOpening opening = {{1, 1}, 17, ConnectionKind::translated, {}, tuples[50], tuples[50], 0, {}, 0};
  std::atomic<uint32_t> running = kWorkers;
  std::atomic<uint64_t> used = 0;
  std::vector<std::thread> threads;
  for (uint32_t worker = 0; worker < kWorkers; ++worker) {
    threads.emplace_back([&, worker] {
      uint64_t own = 0;
      for (uint32_t i = 0; i < kRounds; ++i) {
        if (i % 32 == 0) table.enter(worker);
        const Tuple& tuple = tuples[i % 50];
        const TupleKey key = key_of(i % 3 ? tuple : turned(tuple), 1);
        ConnectionTable::Found found = table.find(key);
        if (!found && i % 3) found = table.open(key, 1, worker, 0);
        if (found) {
          for (int look = 0; look < 4; ++look) {
            const Connection& at = *found.at;
            CHECK(memcmp(&at.original, &tuple, sizeof tuple) == 0 && at.protocol == 17 && at.places[0] == 1);
          }
          ConnectionHalf& half = found.at->half(found.reply);
          relaxed_store(half.packets, relaxed_load(half.packets) + 1);
          ++own;
        }
        if (i % 32 == 31) {
          table.leave(worker);
        } else {
          table.pass(worker);
        }
      }
      table.leave(worker);
      used += own;
      --running;
    });
  }
  for (uint32_t i = 0; running > 0; ++i) {
    const uint32_t slot = table.open(opening, 2, 0, {});
    if (slot != kNone) table.end(slot, 0);
    table.close(i % 48);
    table.expire(i);
    table.find_handle(key_of(tuples[i % 50], 1));
    if (i % 64 == 0) std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(used > 1000 && table.opened() > 1000);
}

// A table that leads clients 10.0.0.1 and so on to 10.0.0.100 and the ones behind it, whose numbers are `pin` and so on.
BalancingTable balancing(uint32_t backends, uint32_t pin, uint32_t quota, uint32_t unproven_quota) {
  BalancingTable table = {false, 80, quota, unproven_quota, {}, {}};
  for (uint32_t i = 0; i < backends; ++i) {
    BalancedBackend backend = {pin + i, 1, {}, 8080, 0};
    memcpy(backend.address, tuple_of(0, 100 + i, 0, 0).destination, sizeof backend.address);
    table.backends.push_back(backend);
  }
  for (uint32_t slot = 0; slot < 251; ++slot) table.slots.push_back(static_cast<uint16_t>(slot * 7 % backends));
  return table;
}

// Connections that workers open by a table go where it says, and are counted until they end, however that is.
void test_balancing() {
  Random random("balancing");
  constexpr uint32_t kOwner = 1u << 16;
  Memory memory(64);
  ConnectionTable table(memory.bytes(), memory.size(), {40, 40, 40}, random.below(1u << 30));
  const BalancingTable by = balancing(3, 10, 12, 6);
  CHECK(by.is_valid() && !BalancingTable{}.is_valid());
  table.add_table(7, by);
  size_t opened = 0, refused = 0;
  for (int step = 0; step < 50'000; ++step) {
    const uint32_t client = random.below(4);
    const TupleKey key = key_of(tuple_of(client, 200, random.below(30), 80), 1);
    const uint32_t owners[kBalanceOwners] = {kOwner + client, kOwner + (client ^ 1), 0, 0};
    const bool was_open = static_cast<bool>(table.find(key));
    const ConnectionTable::Found found = table.open_balanced(7, owners, key, step);
    if (found) {
      const BalancedBackend& backend = by.backend_of(key.tuple, 17);
      const Connection& at = *found.at;
      CHECK(at.pin == backend.pin && at.table == 7 && at.owner == owners[0] && at.places[1] == 1);
      CHECK(memcmp(at.translated.destination, backend.address, 16) == 0 && load16(at.translated.destination_port) == 8080);
      CHECK(memcmp(at.translated.source, key.tuple.source, 16) == 0 && !was_open);
      CHECK(table.owned(owners[0]).size() + table.owned(owners[1]).size() <= 12 && table.find(key).slot == found.slot);
      ++opened;
      if (random.chance(40)) found.at->half(0).packets = found.at->half(1).packets = 1;
    } else {
      ++refused;
    }
    CHECK(!table.open_balanced(8, owners, key_of(tuple_of(9, 200, 1, 80), 1), step));
    const uint32_t slot = random.below(64);
    if (random.chance(20)) table.close(slot);
    if (random.chance(10)) table.claim(slot, memory[slot].generation);
    if (random.chance(5)) table.end(slot, step);
    uint32_t counts[3] = {}, all = 0;
    for (uint32_t i = 0; i < 64; ++i) {
      if (memory[i].generation == 0 || memory[i].table == 0) continue;
      ++counts[memory[i].pin - 10];
      ++all;
    }
    for (uint32_t i = 0; i < 3; ++i) CHECK(table.balanced_to(10 + i) == counts[i]);
    CHECK(table.balanced_by(7) == all && table.balanced_by(8) == 0);
  }
  CHECK(opened > 1000 && refused > 1000);
  for (const uint32_t slot : table.expire(1e9)) CHECK(memory[slot].table == 0);
  CHECK(table.balanced_by(7) == 0);
}

// Workers open connections by tables that come and go. Once one has gone, none is opened by it.
void test_balancing_threads() {
  constexpr uint32_t kWorkers = 3, kRounds = 40'000, kOwner = 1u << 16;
  Memory memory(96);
  ConnectionTable table(memory.bytes(), memory.size(), {80, 80, 80}, 1);
  std::atomic<uint32_t> running = kWorkers;
  std::atomic<uint32_t> current = 1;
  std::atomic<uint64_t> opened = 0;
  std::vector<std::thread> threads;
  table.add_table(1, balancing(3, 1, 30, 20));
  for (uint32_t worker = 0; worker < kWorkers; ++worker) {
    threads.emplace_back([&, worker] {
      const uint32_t owners[kBalanceOwners] = {kOwner + worker, kOwner + 9, 0, 0};
      for (uint32_t i = 0; i < kRounds; ++i) {
        table.enter(worker);
        const TupleKey key = key_of(tuple_of(worker, 200, i % 50, 80), 1);
        ConnectionTable::Found found = table.find(key);
        if (!found) found = table.open_balanced(current, owners, key, 0);
        if (found) {
          CHECK(memcmp(&found.at->original, &key.tuple, sizeof key.tuple) == 0 && found.at->pin != 0);
          relaxed_store(found.at->half(1).flow, i);
          ++opened;
        }
        table.leave(worker);
      }
      --running;
    });
  }
  for (uint32_t i = 2; running > 0; ++i) {
    table.add_table(i, balancing(1 + i % 3, i, 30, 20));
    const uint32_t before = current.exchange(i);
    table.remove_table(before);
    const uint32_t left = table.balanced_by(before);
    for (const uint32_t slot : table.owned(kOwner + i % 3)) table.claim(slot, relaxed_load(memory[slot].generation));
    table.close(i % 96);
    table.expire(i % 2 ? 0 : 1e9);
    CHECK(table.balanced_by(before) <= left);
    std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(opened > 1000);
}

}  // namespace

int main() {
  test_finding();
  test_full_buckets();
  test_taken();
  test_one_end();
  test_ended();
  test_room();
  test_spare();
  test_guaranteed();
  test_against();
  test_time();
  test_recovery();
  test_balancing();
  test_balancing_threads();
  test_threads();
}
