// Connections, by how many there are: what it takes to find one by its tuple, one by
// one and a burst at once, as the datapath does; what it takes to open one; and the
// memory of a connection. Then whole frames through the datapath: of established
// connections, and each the first one of its connection, which `track` opens.
//
// The sizes take turns; a turn's time is that of its median block, and what is printed
// are medians of the turns and of their ratios, so what other programs took is no part
// of it. Frames are written before their time is taken, and go to a port in memory.
//
// With `--json`, prints one object for bench/connections.ts.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "../datapath.h"
#include "bench.h"

using namespace weft;

namespace {

constexpr size_t kBurst = 32;
constexpr size_t kBlock = 256;
constexpr size_t kBlocks = 1000;
constexpr size_t kTurns = 9;
constexpr uint32_t kSizes[] = {1'000, 10'000, 100'000, 1'000'000};
constexpr uint32_t kPlace = 100;

uint32_t source_of(uint32_t connection) { return 0x0b000000 + connection / 50'000; }
uint32_t port_of(uint32_t connection) { return 1024 + connection % 50'000; }

TupleKey key_of(uint32_t connection) {
  TupleKey key = {};
  key.tuple.source[10] = key.tuple.source[11] = key.tuple.destination[10] = key.tuple.destination[11] = 0xff;
  store32(key.tuple.source + 12, source_of(connection));
  store32(key.tuple.destination + 12, 0x0a000001);
  store16(key.tuple.source_port, port_of(connection));
  store16(key.tuple.destination_port, 80);
  key.place = kPlace;
  key.protocol = 17;
  return key;
}

double resident_bytes() {
  FILE* file = fopen("/proc/self/statm", "r");
  long pages = 0;
  if (!file || fscanf(file, "%*d %ld", &pages) != 1) abort();
  fclose(file);
  return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// A table with its memory, which costs what is used of it.
struct Room {
  explicit Room(uint32_t connections)
      : memory(connections + 65), table(reinterpret_cast<uint8_t*>(&memory[0]), memory.size() * sizeof(Connection),
                                        {connections, connections, connections}, 0x5eed) {}
  ZeroedArray<Connection> memory;
  ConnectionTable table;
};

// What the datapath does with a packet of a connection.
inline void count(const ConnectionTable::Found& found) {
  if (!found) abort();
  ConnectionHalf& half = found.at->half(found.reply);
  relaxed_store(half.packets, relaxed_load(half.packets) + 1);
  relaxed_store(half.last_seen_ms, 1.0);
}

template <typename LookUp>
double take_turn(Sequence* random, uint32_t connections, LookUp look_up) {
  std::vector<TupleKey> keys(kBlock);
  std::vector<double> took;
  for (size_t block = 0; block < kBlocks; ++block) {
    for (TupleKey& key : keys) key = key_of(random->below(connections));
    const double from = now_ns();
    look_up(keys.data());
    took.push_back((now_ns() - from) / kBlock);
  }
  return median(&took);
}

struct Subject {
  explicit Subject(uint32_t connections) : connections(connections) {
    const double before = resident_bytes();
    room = std::make_unique<Room>(connections);
    std::vector<double> took;
    for (uint32_t i = 0; i < connections;) {
      const uint32_t until = std::min<uint32_t>(i + 500, connections);
      const uint32_t some = until - i;
      const double from = now_ns();
      for (; i < until; ++i) {
        if (!room->table.open(key_of(i), kPlace, 1, 0)) abort();
      }
      took.push_back((now_ns() - from) / some);
    }
    open_ns = median(&took);
    bytes = (resident_bytes() - before) / connections;
  }

  void take_turns() {
    const ConnectionTable& table = room->table;
    one.push_back(take_turn(&random, connections, [&](const TupleKey* keys) {
      for (size_t i = 0; i < kBlock; ++i) count(table.find(keys[i]));
    }));
    burst.push_back(take_turn(&random, connections, [&](const TupleKey* keys) {
      for (size_t from = 0; from < kBlock; from += kBurst) {
        uint32_t hashes[kBurst];
        for (size_t i = 0; i < kBurst; ++i) table.prefetch(hashes[i] = table.hash(keys[from + i]));
        for (size_t i = 0; i < kBurst; ++i) table.prefetch_record(hashes[i]);
        for (size_t i = 0; i < kBurst; ++i) count(table.find(keys[from + i], hashes[i]));
      }
    }));
  }

  uint32_t connections;
  Sequence random = {connections};
  std::unique_ptr<Room> room;
  double open_ns = 0, bytes = 0;
  std::vector<double> one, burst;  // nanoseconds a lookup, by turns
};

double median_of(std::vector<double> samples) { return median(&samples); }

double median_ratio(std::vector<double> of, const std::vector<double>& to) {
  for (size_t i = 0; i < of.size(); ++i) of[i] /= to[i];
  return median(&of);
}

// A UDP datagram of 60 bytes over IPv4.
void write_frame(uint8_t* frame, uint32_t connection) {
  static const uint8_t kStart[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0};
  memset(frame, 0, 60);
  memcpy(frame, kStart, sizeof kStart);
  store32(frame + 26, source_of(connection));
  store32(frame + 30, 0x0a000001);
  store16(frame + 34, port_of(connection));
  store16(frame + 36, 80);
  store16(frame + 38, 26);
}

// Frames from port 1 to port 2 by one flow, which covers all of them.
struct Switch {
  explicit Switch(ConnectionTable* table, const std::vector<Action>& actions) : datapath(1000, table, 1, 0, hooks()) {
    for (const uint16_t number : {1, 2}) {
      auto port = std::make_unique<Port>();
      port->number = number;
      port->place = kPlace;
      if (datapath.add_port(std::move(port))) abort();
    }
    Key mask = {};
    memset(mask.in_port, 0xff, sizeof mask.in_port);
    Key key = {};
    key.in_port[1] = 1;
    datapath.flow_put(1, Words::of(key), Words::of(mask), actions.data(), actions.size());
  }

  MemoryHooks hooks() {
    MemoryHooks hooks;
    hooks.transmit = [this](uint16_t, const Frame&) { ++sent; };
    return hooks;
  }

  void send(const Frame* frames, size_t count) {
    for (size_t from = 0; from < count; from += kBurst) {
      const size_t arrivals = datapath.receive(1, frames + from, std::min(kBurst, count - from));
      for (size_t i = 0; i < arrivals; ++i) datapath.forward(1, i);
    }
  }

  uint64_t sent = 0;
  Datapath datapath;
};

// Nanoseconds a frame; `connection_of` says of which each is.
template <typename ConnectionOf>
double frame_ns(Switch* by, size_t blocks, ConnectionOf connection_of) {
  std::vector<uint8_t> bytes(kBlock * 64);
  std::vector<Frame> frames(kBlock);
  std::vector<double> took;
  for (size_t block = 0; block < blocks; ++block) {
    for (size_t i = 0; i < kBlock; ++i) {
      write_frame(bytes.data() + 64 * i, connection_of());
      frames[i] = {bytes.data() + 64 * i, 60, {}};
    }
    const uint64_t before = by->sent;
    const double from = now_ns();
    by->send(frames.data(), kBlock);
    took.push_back((now_ns() - from) / kBlock);
    if (by->sent - before != kBlock) abort();
  }
  return median(&took);
}

struct FrameTimes {
  double without_table, empty_table, elsewhere, established, established_million, opening;
};

FrameTimes bench_frames() {
  const std::vector<Action> carry = {{Op::output, {}, 2, {}}};
  const std::vector<Action> track = {{Op::track, {}, kPlace, {}}, carry[0]};
  constexpr uint32_t kMany = 1'000'000;
  Room few(1'000), many(kMany), none(1), other(1);
  TupleKey key = key_of(0);
  key.place = kPlace + 1;
  if (!other.table.open(key, key.place, 1, 0)) abort();
  Switch carried_without(nullptr, carry), carried(&none.table, carry), beside(&other.table, carry);
  Switch tracked(&few.table, track), opening(&many.table, track);
  Sequence random = {1};
  uint32_t next = 0;
  const double open_ns = frame_ns(&opening, kMany / kBlock - 1, [&] { return next++; });
  frame_ns(&tracked, 50, [&] { return next++ % 1'000; });
  std::vector<double> without, with, elsewhere, established, million;
  for (size_t turn = 0; turn < kTurns; ++turn) {
    without.push_back(frame_ns(&carried_without, 300, [&] { return random.below(1'000); }));
    with.push_back(frame_ns(&carried, 300, [&] { return random.below(1'000); }));
    elsewhere.push_back(frame_ns(&beside, 300, [&] { return random.below(1'000); }));
    established.push_back(frame_ns(&tracked, 300, [&] { return random.below(1'000); }));
    million.push_back(frame_ns(&opening, 300, [&] { return random.below(kMany - 2 * kBlock); }));
  }
  return {median_of(without), median_of(with), median_of(elsewhere), median_of(established), median_of(million), open_ns};
}

using Subjects = std::vector<std::unique_ptr<Subject>>;

void print_table(const Subjects& subjects) {
  printf("%-16s%10s%8s%10s%8s%10s%14s%10s\n", "connections", "one ns", "to 1k", "of 32 ns", "to 1k", "open ns",
         "opens/s", "bytes");
  for (const auto& subject : subjects) {
    printf("%-16u%10.1f%8.2f%10.1f%8.2f%10.1f%14.0f%10.0f\n", subject->connections, median_of(subject->one),
           median_ratio(subject->one, subjects[0]->one), median_of(subject->burst),
           median_ratio(subject->burst, subjects[0]->burst), subject->open_ns, 1e9 / subject->open_ns, subject->bytes);
  }
}

void print_table(const FrameTimes& times) {
  printf("\n%-52s%10s%16s\n", "frames through the datapath", "ns", "a second");
  const auto row = [](const char* name, double ns) { printf("%-52s%10.1f%16.0f\n", name, ns, 1e9 / ns); };
  row("carried, without a table of connections", times.without_table);
  row("carried, and no connection is open", times.empty_table);
  row("carried, and connections of another place are open", times.elsewhere);
  row("of 1,000 established connections", times.established);
  row("of 1,000,000 established connections", times.established_million);
  row("each opens a connection, up to 1,000,000", times.opening);
}

void print_json(const Subjects& subjects) {
  printf("{\"sizes\":[");
  for (const auto& subject : subjects) {
    printf("%s{\"connections\":%u,\"oneNs\":%.2f,\"burstNs\":%.2f,\"oneRatio\":%.3f,\"burstRatio\":%.3f,"
           "\"openNs\":%.1f,\"bytes\":%.1f}",
           subject == subjects[0] ? "" : ",", subject->connections, median_of(subject->one), median_of(subject->burst),
           median_ratio(subject->one, subjects[0]->one), median_ratio(subject->burst, subjects[0]->burst),
           subject->open_ns, subject->bytes);
  }
  printf("],");
}

void print_json(const FrameTimes& times) {
  printf("\"establishedNs\":%.1f,\"establishedMillionNs\":%.1f,\"openingNs\":%.1f}\n", times.established,
         times.established_million, times.opening);
}

}  // namespace

int main(int count, char** arguments) {
  const bool json = count > 1 && strcmp(arguments[1], "--json") == 0;
  Subjects subjects;
  for (const uint32_t connections : kSizes) subjects.push_back(std::make_unique<Subject>(connections));
  for (size_t turn = 0; turn < kTurns; ++turn) {
    for (const auto& subject : subjects) subject->take_turns();
  }
  json ? print_json(subjects) : print_table(subjects);
  subjects.clear();
  const FrameTimes times = bench_frames();
  json ? print_json(times) : print_table(times);
}
