// The core without threads, kernel or Node: each table against a naive twin, and a datapath with
// random frames, of which none may be lost without a reason. Prints what failed and
// exits 1.
#include <string.h>

#include <algorithm>
#include <memory>
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

// From 10.0.0.9, which a TCP reset ignores.
Action refuse(uint32_t answer) {
  return {Op::refuse, {}, static_cast<uint32_t>(Reason::no_route) | answer << 8,
          {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9}};
}

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

void test_pending() {
  PendingTable pending(7, 3);
  OwnedFrame frame(udp4(1));
  Key key = {};
  CHECK(pending.find(Words::of(key)) == PendingTable::kNone);
  CHECK(pending.open(1, key, frame.frame) == kNoDrop);
  const uint32_t handle = pending.find(Words::of(key));
  for (size_t i = 1; i < kParkedPerFlow; ++i) {
    frame.frame.data[42] = static_cast<uint8_t>(i);
    CHECK(pending.park(handle, Words::of(key), frame.frame) == kNoDrop);
  }
  CHECK(pending.park(handle, Words::of(key), frame.frame) == Reason::upcall_parked_full && pending.held() == kParkedPerFlow);
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

  // Frames of the flow with another key wait behind the first ones, and are not decided with them.
  Key marked = key;
  marked.ip_tos = 3;
  marked.ip_ttl = 63;
  CHECK(pending.open(1, key, frame.frame) == kNoDrop && pending.find(Words::of(marked)) == pending.find(Words::of(key)));
  for (const Key& one : {key, marked, key}) {
    CHECK(pending.park(pending.find(Words::of(one)), Words::of(one), frame.frame) == kNoDrop);
  }
  CHECK(pending.take_upcalls(upcall, 2) == 1);
  const auto mixed = pending.release(static_cast<Token>(upcall[0].token));
  CHECK(mixed.decided == 2 && mixed.frames.size() == 4 && mixed.key == Words::of(key));
  CHECK(mixed.key_of(mixed.frames[2]) == Words::of(marked) && mixed.key_of(mixed.frames[3]) == Words::of(key));
  CHECK(pending.held() == 0 && pending.find(Words::of(marked)) == PendingTable::kNone);

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
  uint64_t transmitted = 0, balanced = 0;
  MemoryHooks hooks;
  hooks.transmit = [&](uint16_t, const Frame& frame) { transmitted += frame.length > 0; };
  hooks.transmit_datagram = [&](uint16_t, const uint8_t*, uint32_t, uint8_t, const iovec* payload) {
    transmitted += payload[0].iov_len + payload[1].iov_len > kVxlanBytes;
  };
  alignas(64) static Connection memory[1 + 24] = {};
  ConnectionTable connections(reinterpret_cast<uint8_t*>(memory), sizeof memory, {20, 10, 6}, 7);
  // A connection that actions name, but that no frame belongs to.
  ConnectionOpening named = {{1, 0}, 17, ConnectionKind::translated, {}, {}, {}, 0, {}, 0};
  for (Tuple* tuple : {&named.original, &named.translated}) {
    memcpy(tuple->source, nat::kMappedPrefix, sizeof nat::kMappedPrefix);
    memcpy(tuple->destination, nat::kMappedPrefix, sizeof nat::kMappedPrefix);
  }
  BalancingTable table = {false, 53, 8, 5, {0, 1, 0}, {{21, 1, {}, 53, 0}, {22, 0, {}, 54, 0}}};
  for (BalancedBackend& backend : table.backends) {
    const uint8_t address[] = {0xff, 0xff, 10, 0, 1, static_cast<uint8_t>(backend.pin)};
    memcpy(backend.address + 10, address, sizeof address);
  }
  connections.add_table(6, std::move(table));
  CHECK(connections.open(named, 1000, 0, {}) == 0);
  Datapath datapath(50, &connections, 1, 0, hooks);
  for (uint16_t port = 1; port <= 3; ++port) {
    add_port(&datapath, port, PortKind::memory);
    datapath.port(port)->place = 1;
  }
  add_port(&datapath, 4, PortKind::memory_vxlan);
  datapath.port(3)->ingress = bucket_of({.per_second = 5000, .burst = 100, .queue = 2000});
  datapath.port(1)->egress = bucket_of({.per_second = 5000, .burst = 100, .queue = 2000});
  datapath.port(1)->storm = bucket_of({.per_second = 20, .burst = 5});
  datapath.port(2)->place = kInternal;
  datapath.port(3)->sockets = bucket_of({.per_second = 20, .burst = 5});
  datapath.port(3)->unanswered = bucket_of({.per_second = 10, .burst = 4});
  for (uint16_t number = 1; number <= 3; ++number) datapath.port(number)->answers = bucket_of({.per_second = 1, .burst = 1});
  const Rate upcalls = {.per_second = 2000, .burst = 40};
  datapath.port(3)->upcalls = std::make_unique<UpcallRate>(upcalls, 1, std::make_shared<UpcallBuckets>(upcalls));
  std::vector<uint32_t> ids;
  uint32_t last_id = 0;
  static constexpr Reason kRare[] = {Reason::connection_gone, Reason::icmp_unrelated, Reason::ipv4_checksum, Reason::rate_limit_ingress, Reason::rate_limit_egress, Reason::storm_control, Reason::rate_limit_sockets};
  // Some outcomes are rare with some seeds: it goes on until each was seen often enough.
  const auto is_rare = [&datapath] {
    return datapath.counters().unanswered <= 10 || std::ranges::any_of(kRare, [&datapath](Reason reason) {
      return datapath.counters().drops[static_cast<size_t>(reason)] <= 10;
    });
  };
  for (int step = 0; step < 100000 || (step < 1000000 && is_rare()); ++step) {
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
    // A table that is there, or not; an owner that is a workload.
    const Action balance = {Op::balance, {}, 6 + random.below(2), {1, 0, 1, 0}};
    const bool balances = random.chance(30);
    const Action refusal = balances ? balance : refuse(random.below(kAnswers));
    const bool refused = random.chance(20);
    const Action* actions = refused ? &refusal : some + !translated;
    const size_t count = refused ? 1 : translated + 1 + random.below(3);
    if (random.chance(1)) datapath.originate(owned.frame, actions, count);
    if (random.chance(10) && !ids.empty()) {
      std::swap(ids[random.below(static_cast<uint32_t>(ids.size()))], ids.back());
      datapath.flow_del(ids.back());
      ids.pop_back();
    }
    if (random.chance(1) && random.chance(5)) {
      CHECK(datapath.take_port(2));
      add_port(&datapath, 2, PortKind::memory);
      datapath.port(2)->place = random.chance(50) ? kInternal : 1;
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
        if (datapath.flow_put(++last_id, Words::of(upcalls[i].key), Words::of(mask), actions, count, of_connections)) {
          ids.push_back(last_id);
        }
      }
      if (random.chance(98)) datapath.execute(static_cast<Token>(upcalls[i].token), actions, count);
    }
    check_conservation(datapath);
    balanced += connections.balanced_to(21) + connections.balanced_to(22);
  }
  CHECK(datapath.counters().tx == transmitted && transmitted > 10000);
  CHECK(datapath.counters().upcalls > 1000);
  CHECK(datapath.counters().originated > 500 && datapath.counters().unanswered > 10);
  for (const Reason reason : kRare) {
    CHECK(datapath.counters().drops[static_cast<size_t>(reason)] > 10);
  }
  for (const Reason reason : {Reason::fragment_overlap, Reason::fragment_duplicate, Reason::fragment_limit,
                              Reason::fragment_timeout}) {
    CHECK(datapath.counters().drops[static_cast<size_t>(reason)] > 10);
  }
  CHECK(memory[1].half(0).packets > 10 && memory[1].half(1).packets == 0);
  CHECK(connections.opened() > 100 && connections.size() <= 20);
  CHECK(balanced > 100);
  for (uint16_t number : datapath.port_numbers()) datapath.take_port(number);
  CHECK(datapath.held() == 0);
  check_conservation(datapath);
}

// Floods in parts: what is sent, and what becomes of it if its flow changes before or while it is.
void test_floods() {
  constexpr uint16_t kPorts = 40;
  std::vector<uint32_t> sent(kPorts + 1);
  std::vector<uint8_t> order;
  MemoryHooks hooks;
  hooks.transmit = [&](uint16_t port, const Frame& frame) {
    ++sent[port];
    if (port == 2) order.push_back(frame.data[42]);
  };
  Datapath datapath(50, nullptr, 1, 0, hooks);
  datapath.flood_in_parts();
  for (uint16_t port = 1; port <= kPorts; ++port) add_port(&datapath, port, PortKind::memory);
  std::vector<Action> everybody;
  for (uint16_t port = 2; port <= kPorts; ++port) everybody.push_back(output(port));
  const Action closed = {Op::drop, {}, static_cast<uint32_t>(Reason::policy_ingress), {}};
  const Words any = Words::of(Key{});
  constexpr uint8_t kDontFragment = 0x40;
  const auto receive = [&](uint16_t port, uint8_t mark, uint8_t flags = 0) {
    std::vector<uint8_t> bytes = udp4(1, mark);
    bytes[0] = 0x33;
    bytes[20] |= flags;
    finish_header(&bytes);
    OwnedFrame owned(bytes);
    for (size_t i = datapath.receive(port, &owned.frame, 1); i > 0; --i) datapath.forward(port, 0);
  };
  const auto upcall = [&] {
    UpcallRecord record;
    CHECK(datapath.take_upcalls(&record, 1) == 1);
    return static_cast<Token>(record.token);
  };
  const auto total = [&] {
    size_t frames = 0;
    for (uint32_t of_port : sent) frames += of_port;
    check_conservation(datapath);
    return frames;
  };
  const auto rest = [&] {
    while (datapath.flood(kFloodedAtOnce)) check_conservation(datapath);
    CHECK(!datapath.floods_wait());
  };

  // An answer that is not cached goes on at once.
  receive(1, 0);
  datapath.execute(upcall(), everybody.data(), everybody.size());
  CHECK(!datapath.floods_wait() && total() == 39);

  // Frames that were parked, in parts, and behind them one that hits the flow.
  receive(1, 1);
  receive(1, 2);
  const Token token = upcall();
  CHECK(datapath.flow_put(1, any, any, everybody.data(), everybody.size()));
  datapath.execute(token, everybody.data(), everybody.size());
  receive(1, 3);
  CHECK(datapath.floods_wait() && total() == 39);
  CHECK(datapath.flood(kFloodedAtOnce) && total() < 39 + 39);
  rest();
  CHECK(total() == 4 * 39 && order == std::vector<uint8_t>({0, 1, 2, 3}) && datapath.held() == 0);
  CHECK(datapath.flows().by_id(1)->packets == 1);

  // Decided, and denied before its turn has come: by the flow, and without one.
  for (const bool goes : {false, true}) {
    datapath.flow_del(1);
    receive(1, 4);
    const Token decided = upcall();
    CHECK(datapath.flow_put(1, any, any, everybody.data(), everybody.size()));
    datapath.execute(decided, everybody.data(), everybody.size());
    const uint64_t denied = datapath.counters().drops[static_cast<size_t>(Reason::policy_ingress)];
    if (goes) {
      datapath.flow_del(1);
    } else {
      CHECK(datapath.flow_put(1, any, any, &closed, 1));
    }
    while (datapath.flood(kFloodedAtOnce)) {
    }
    CHECK(datapath.upcalls_wait() == goes && total() == 4 * 39);
    if (goes) datapath.execute(upcall(), &closed, 1);
    CHECK(datapath.held() == 0 && datapath.counters().drops[static_cast<size_t>(Reason::policy_ingress)] == denied + 1);
  }

  // Its flow goes again and again, and its port has paid for its first upcall only.
  const Rate few = {.per_second = 1, .burst = 4};
  datapath.port(1)->upcalls = std::make_unique<UpcallRate>(few, 1, std::make_shared<UpcallBuckets>(few));
  receive(1, 14);
  for (int time = 0; time < 10; ++time) {
    const Token again = upcall();
    CHECK(datapath.flow_put(1, any, any, everybody.data(), everybody.size()));
    datapath.execute(again, everybody.data(), everybody.size());
    datapath.flow_del(1);
    while (datapath.flood(kFloodedAtOnce)) {
    }
  }
  datapath.execute(upcall(), &closed, 1);
  CHECK(datapath.held() == 0 && total() == 4 * 39);
  datapath.port(1)->upcalls = nullptr;

  // One that is being sent is sent when the change is in force, whether its flow goes, changes or is replaced.
  for (int way = 0; way < 3; ++way) {
    CHECK(datapath.flow_put(7, any, any, everybody.data(), everybody.size()));
    const size_t before = total();
    receive(1, 5);
    receive(1, 6);
    CHECK(datapath.flood(kFloodedAtOnce) && total() > before && total() < before + 39);
    if (way == 0) datapath.flow_del(7);
    if (way == 1) CHECK(datapath.flow_put(7, any, any, &closed, 1));
    if (way == 2) CHECK(datapath.flow_put(8, any, any, &closed, 1));
    CHECK(total() == before + 39);
    while (datapath.flood(kFloodedAtOnce)) {
    }
    if (way == 0) datapath.execute(upcall(), &closed, 1);
    CHECK(total() == before + 39 && datapath.held() == 0);
    datapath.flow_del(8);
  }

  // Ports that go, and that come: the ones of the frames, of one that waits, and of a destination.
  CHECK(datapath.flow_put(9, any, any, everybody.data(), everybody.size()));
  size_t before = total();
  receive(2, 7);
  receive(1, 8);
  receive(3, 9);
  CHECK(datapath.flood(1) && datapath.flood(1));
  datapath.take_port(1);
  CHECK(datapath.held() > 1 && total() < before + 10);
  datapath.take_port(2);
  CHECK(datapath.held() == 1 && total() == before + 39);
  CHECK(datapath.flood(2));
  datapath.take_port(30);
  add_port(&datapath, 30, PortKind::memory);
  CHECK(datapath.held() == 0 && total() == before + 39 + 38 - 1);
  rest();
  // One that is too big for a part of the way ends with its answer.
  datapath.flow_del(9);
  std::vector<Action> with_mtu = everybody;
  with_mtu.insert(with_mtu.begin(), {Op::mtu, {}, 20, {}});
  receive(3, 13, kDontFragment);
  for (size_t dropped = 1; dropped <= 2; ++dropped) {
    const Token token = upcall();
    CHECK(datapath.flow_put(9, any, any, with_mtu.data(), with_mtu.size()));
    datapath.execute(token, with_mtu.data(), with_mtu.size());
    CHECK(!datapath.floods_wait() && !datapath.upcalls_wait() && datapath.held() == 0);
    CHECK(datapath.counters().drops[static_cast<size_t>(Reason::too_big)] == dropped);
    if (dropped == 1) receive(3, 13, kDontFragment);
    rest();
  }
  datapath.flow_del(9);
  CHECK(datapath.flow_put(9, any, any, everybody.data(), everybody.size()));

  // So many wait of one port, and while so many answers do, no upcall for a group is taken.
  const auto stormed = [&] { return datapath.counters().drops[static_cast<size_t>(Reason::storm_control)]; };
  for (size_t i = 0; i < kFloodsOfPort + 3; ++i) receive(3, 10);
  CHECK(stormed() == 3);
  rest();
  // However many ports fill their share, another one finds room.
  for (uint16_t port = 4; port < 4 + kFloods / kFloodsOfPort; ++port) {
    for (size_t i = 0; i < kFloodsOfPort; ++i) receive(port, 10);
  }
  const uint64_t stormed_before = stormed();
  CHECK(datapath.flood_room(3) >= kFloodsOfPort / 4);
  for (size_t i = datapath.flood_room(3); i > 0; --i) receive(3, 10);
  CHECK(stormed() == stormed_before && stormed_before > 3);
  rest();
  datapath.flow_del(9);
  std::vector<Token> tokens;
  for (uint16_t port = 4; port < 4 + kManyAnswers / kParkedPerFlow; ++port) {
    for (size_t i = 0; i < kParkedPerFlow; ++i) receive(port, 11);
    tokens.push_back(upcall());
  }
  receive(3, 12);
  CHECK(datapath.upcalls_wait() && datapath.flow_put(10, any, any, everybody.data(), everybody.size()));
  for (const Token token : tokens) datapath.execute(token, everybody.data(), everybody.size());
  UpcallRecord record;
  CHECK(!datapath.upcalls_wait() && datapath.take_upcalls(&record, 1) == 0);
  CHECK(datapath.flood(kPorts) && datapath.upcalls_wait());
  rest();
  CHECK(datapath.held() == 1);
  for (uint16_t number : datapath.port_numbers()) datapath.take_port(number);
  check_conservation(datapath);
}

}  // namespace

int main() {
  test_pending();
  test_vxlan_and_checksum();
  test_coverage();
  test_datapath();
  test_floods();
  printf("core_test: ok\n");
}
