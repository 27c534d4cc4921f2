// A worker with its thread against the controlling thread: frames come in from the underlay at full
// speed while flows, ports, mirror and counters change. Mainly for the thread sanitizer. Needs root,
// and works in a namespace of its own.
//
//   flood ──UDP──► 127.0.0.1 worker: VXLAN port ──encap──► 127.0.0.2 sink
//                             └ controlling thread: this one
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "../connection.h"
#include "../workers.h"
#include "../io/wait.h"
#include "check.h"
#include "loopback.h"

using namespace weft;

namespace {

constexpr uint16_t kL4Port = 4789;

sockaddr_in address(uint8_t host, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(0x7f000000u | host);
  return address;
}

int udp_socket(uint8_t host, uint16_t port) {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in local = address(host, port);
  CHECK(bind(fd, reinterpret_cast<const sockaddr*>(&local), sizeof local) == 0);
  return fd;
}

void mapped(uint8_t out[16], uint8_t host) {
  const uint8_t bytes[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, host};
  memcpy(out, bytes, 16);
}

Action encap_to(uint8_t host) {
  Action action = {Op::encap, {}, 7, {}};
  mapped(action.address, host);
  return action;
}

// VXLAN with an inner Ethernet frame, whose source MAC ends in `flow`.
struct Datagram {
  uint8_t bytes[8 + 60] = {8, 0, 0, 0, 0, 0, 5, 0, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0x12, 0x34};
  explicit Datagram(uint16_t flow) {
    bytes[18] = static_cast<uint8_t>(flow >> 8);
    bytes[19] = static_cast<uint8_t>(flow);
  }
};

class Flood {
 public:
  Flood() : thread_([this] { run(); }) {}
  ~Flood() {
    stop_ = true;
    thread_.join();
  }

 private:
  void run() {
    const int fd = udp_socket(3, 0);
    const sockaddr_in to = address(1, kL4Port);
    for (uint16_t i = 0; !stop_; ++i) {
      const Datagram datagram(i % 500);
      // It is refused while the port does not exist.
      (void)!sendto(fd, datagram.bytes, sizeof datagram.bytes, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    }
    close(fd);
  }
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

void check_conservation(Workers& workers) {
  workers.each([](Datapath& datapath) { CHECK(is_conserved(datapath.counters(), datapath.held())); });
}

void test_under_load(size_t count) {
  std::atomic<uint64_t> wakes = 0;
  Workers workers(
      Worker::Mode::threaded, count, 300, {}, 1, {},
      [&wakes] {
        wakes.fetch_add(1);
        wakes.notify_one();
      });
  CHECK(workers.start() == 0);
  workers.set_clock(1e6);
  uint8_t local[16];
  mapped(local, 1);
  const int sink = udp_socket(2, kL4Port);
  Flood flood[2];
  const std::vector<Action> actions(kFloodedAtOnce + 4, encap_to(2));
  uint32_t last_id = 0;
  uint64_t upcalls = 0;
  for (int round = 0; round < 6; ++round) {
    const size_t flooded = round % 3 == 2 ? actions.size() : 1;
    CHECK(workers.add_vxlan(1, local, kL4Port) == 0);
    CHECK(workers.add_vxlan(2, local, kL4Port) == -EADDRINUSE);
    const std::vector<BpfInstruction> ip_only = {{0x28, 0, 0, 12}, {0x15, 0, 1, 0x800}, {0x06, 0, 0, 1}, {0x06, 0, 0, 0}};
    for (uint64_t before = upcalls; upcalls < before + 2000;) {
      const uint64_t seen = wakes.load();
      UpcallRecord records[kUpcallBatch];
      const Worker::Waiting waiting = workers.take_waiting(records, kUpcallBatch);
      upcalls += waiting.upcalls;
      for (size_t i = 0; i < waiting.upcalls; ++i) {
        Key mask = {};
        memset(mask.in_port, 0xff, sizeof mask.in_port);
        memset(mask.eth_src, 0xff, 6);
        workers.flow_put(++last_id, Words::of(records[i].key), Words::of(mask), actions.data(), flooded);
        workers.execute(static_cast<Token>(records[i].token), actions.data(), std::max<size_t>(flooded, 2));
        workers.flow_del(last_id - 100);
      }
      // Tight enough to refuse some frames now and then, but not to stop everything.
      const Rate some = {static_cast<uint64_t>(upcalls % 2 ? 5'000'000 : 0), 1000};
      Rate ingress = some;
      ingress.queue = upcalls % 3 ? 20'000 : 0;
      workers.set_rates(1, {.ingress = ingress, .egress = {}, .storm = some, .upcalls = some, .answers = some, .sockets = some, .unanswered = some});
      workers.each([&](Datapath& datapath) { round % 2 ? datapath.mirror().start(1, 50, ip_only) : datapath.mirror().stop(); });
      check_conservation(workers);
      if (waiting.upcalls < kUpcallBatch) wakes.wait(seen);
    }
    CHECK(workers.remove_port(1, true) == 0 && workers.remove_port(1, true) == 0);
    workers.each([](Datapath& datapath) { CHECK(datapath.held() == 0 && !datapath.upcalls_wait()); });
    check_conservation(workers);
  }
  uint32_t next = 0;
  uint64_t packets = 0;
  for (const Workers::FlowTotal& flow : workers.dump(0, 1000, &next)) {
    CHECK(flow.last_used_ms >= 1e6 && flow.last_used_ms < 2e6);
    packets += flow.packets;
  }
  const Workers::Totals totals = workers.totals();
  CHECK(next == SlotIndex::kNone && totals.flows <= 300 && packets <= totals.counters.rx);
  CHECK(totals.counters.tx > 2000);
  CHECK(workers.add_vxlan(1, local, kL4Port) == 0);
  // Until frames wait for the rate. The threads stop while they do.
  workers.set_rates(1, {.ingress = {1000, 1000, 20'000}, .egress = {}, .storm = {}, .upcalls = {}, .answers = {}, .sockets = {}, .unanswered = {}});
  while (workers.totals().held < 10) std::this_thread::yield();
  workers.close();
  workers.each([](Datapath& datapath) { CHECK(datapath.held() == 0); });
  check_conservation(workers);
  CHECK(workers.add_vxlan(1, local, kL4Port) == -EBADF);
  close(sink);
}

// Frames that wait for their rate go on by the timers of the threads, in order, even if nothing else arrives.
void test_rate() {
  constexpr uint16_t kFrames = 40;
  Workers workers(Worker::Mode::threaded, 2, 300, {}, 1, {}, [] {});
  CHECK(workers.start() == 0);
  workers.set_clock(1e6);
  uint8_t local[16];
  mapped(local, 1);
  CHECK(workers.add_vxlan(1, local, kL4Port) == 0);
  const int sink = udp_socket(2, kL4Port);
  const Words any = Words::of(Key{});
  const Action action = encap_to(2);
  CHECK(workers.flow_put(1, any, any, &action, 1));
  workers.set_rates(1, {.ingress = {20'000, 1, 1'000'000}, .egress = {}, .storm = {}, .upcalls = {}, .answers = {}, .sockets = {}, .unanswered = {}});
  const int source = udp_socket(3, 0);
  const sockaddr_in to = address(1, kL4Port);
  for (uint16_t i = 0; i < kFrames; ++i) {
    const Datagram datagram(i);
    CHECK(sendto(source, datagram.bytes, sizeof datagram.bytes, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) ==
          sizeof datagram.bytes);
  }
  // No call of the controlling thread sends them in the meantime.
  for (uint16_t i = 0; i < kFrames; ++i) {
    uint8_t payload[sizeof(Datagram)];
    CHECK(recv(sink, payload, sizeof payload, 0) == sizeof payload);
    CHECK(payload[18] == 0 && payload[19] == i);
  }
  CHECK(workers.totals().held == 0);
  workers.close();
  close(source);
  close(sink);
}

// The thread floods what the controlling thread has decided, in order, unless a change denies it before. Each thread floods what it has received.
void test_floods(size_t count) {
  constexpr size_t kCopies = 3 * kFloodedAtOnce;
  std::atomic<uint64_t> wakes = 0;
  Workers workers(Worker::Mode::threaded, count, 300, {}, 1, {}, [&wakes] {
    wakes.fetch_add(1);
    wakes.notify_one();
  });
  CHECK(workers.start() == 0);
  uint8_t local[16];
  mapped(local, 1);
  CHECK(workers.add_vxlan(1, local, kL4Port) == 0);
  const int sink = udp_socket(2, kL4Port);
  // What comes from different ones may be received by different threads.
  constexpr uint16_t kSources = 8;
  int sources[kSources];
  for (int& source : sources) source = udp_socket(3, 0);
  const sockaddr_in to = address(1, kL4Port);
  const auto send_of = [&](uint16_t flow) {
    Datagram datagram(flow);
    datagram.bytes[8] = 0x33;
    CHECK(sendto(sources[flow % kSources], datagram.bytes, sizeof datagram.bytes, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) ==
          sizeof datagram.bytes);
  };
  const auto upcall = [&] {
    for (;;) {
      const uint64_t seen = wakes.load();
      UpcallRecord record;
      if (workers.take_waiting(&record, 1).upcalls == 1) return record;
      wakes.wait(seen);
    }
  };
  const auto received = [&](uint16_t flow) {
    uint8_t payload[sizeof(Datagram)];
    CHECK(recv(sink, payload, sizeof payload, 0) == sizeof payload && payload[19] == flow);
  };
  const std::vector<Action> everybody(kCopies, encap_to(2));
  const Action closed = {Op::drop, {}, static_cast<uint32_t>(Reason::policy_ingress), {}};
  Key all = {};
  memset(&all, 0xff, sizeof all);
  const Words exact = Words::of(all);

  for (uint16_t flow = 1; flow <= 20; ++flow) {
    send_of(flow);
    const UpcallRecord record = upcall();
    CHECK(workers.flow_put(flow, Words::of(record.key), exact, everybody.data(), kCopies));
    workers.execute(static_cast<Token>(record.token), everybody.data(), kCopies);
    for (size_t i = 0; i < kCopies; ++i) received(flow);
    send_of(flow);
    for (size_t i = 0; i < kCopies; ++i) received(flow);
  }

  // At once: each has all its copies.
  for (uint16_t flow = 1; flow < 20; flow += 2) {
    size_t copies[2] = {};
    send_of(flow);
    send_of(flow + 1);
    for (size_t i = 0; i < 2 * kCopies; ++i) {
      uint8_t payload[sizeof(Datagram)];
      CHECK(recv(sink, payload, sizeof payload, 0) == sizeof payload && (payload[19] == flow || payload[19] == flow + 1));
      ++copies[payload[19] - flow];
    }
    CHECK(copies[0] == kCopies && copies[1] == kCopies);
  }

  send_of(30);
  const UpcallRecord record = upcall();
  const auto token = static_cast<Token>(record.token);
  uint32_t index = 0;
  workers.each([&](Datapath& datapath) {
    if (index++ != PendingTable::worker_of(token)) return;
    const Words key = Words::of(record.key);
    CHECK(datapath.flow_put(30, key, exact, everybody.data(), kCopies));
    datapath.execute(token, everybody.data(), kCopies);
    CHECK(datapath.floods_wait() && datapath.flow_put(30, key, exact, &closed, 1));
  });
  while (workers.totals().counters.drops[static_cast<size_t>(Reason::policy_ingress)] != 1) std::this_thread::yield();
  send_of(1);
  for (size_t i = 0; i < kCopies; ++i) received(1);  // and nothing of 30

  // Nothing is left when it is closed, whatever still waits.
  const uint64_t before = workers.totals().counters.rx;
  for (uint16_t flow = 1; flow <= 20; ++flow) send_of(flow);
  while (workers.totals().counters.rx < before + 20) std::this_thread::yield();
  workers.close();
  workers.each([](Datapath& datapath) { CHECK(datapath.held() == 0 && !datapath.floods_wait()); });
  check_conservation(workers);
  for (const int source : sources) close(source);
  close(sink);
}

// A TAP is read no further than its floods may wait: of a burst that is longer, nothing is dropped.
void test_flood_burst() {
  constexpr size_t kCopies = 10 * kFloodedAtOnce, kFrames = 5 * kFloodsOfPort;
  Workers workers(Worker::Mode::threaded, 1, 300, {}, 1, {}, [] {});
  CHECK(workers.start() == 0);
  uint8_t local[16];
  mapped(local, 1);
  workers.hold();
  CHECK(workers.add_vxlan(1, local, kL4Port) == 0);
  const int sink = udp_socket(2, kL4Port);
  std::vector<TapOpening> tap(1);
  tap[0].target = {{"/proc/self/ns/net"}, "weft0"};
  workers.add_taps({2}, &tap);
  CHECK(tap[0].error == 0);
  link_up("weft0");
  const int source = socket(AF_PACKET, SOCK_RAW, htons(0x1234));
  const sockaddr_ll to = {AF_PACKET, htons(0x1234), static_cast<int>(if_nametoindex("weft0")), 0, 0, 0, {}};
  for (uint16_t i = 0; i < kFrames; ++i) {
    const Datagram datagram(i);
    CHECK(sendto(source, datagram.bytes + 8, sizeof datagram.bytes - 8, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) > 0);
  }
  const Words any = Words::of(Key{});
  const std::vector<Action> everybody(kCopies, encap_to(2));
  CHECK(workers.flow_put(1, any, any, everybody.data(), kCopies));
  workers.begin();
  const auto drops = [&](Reason reason) { return workers.totals().counters.drops[static_cast<size_t>(reason)]; };
  while (workers.totals().counters.tx + drops(Reason::storm_control) * kCopies < kFrames * kCopies) std::this_thread::yield();
  CHECK(drops(Reason::storm_control) == 0);
  workers.close();
  check_conservation(workers);
  close(source);
  close(sink);
}

// Several threads that take from one bucket get the same as one thread would.
void test_bucket() {
  constexpr uint64_t kBurst = 100'000, kBytes = 7;
  constexpr int kThreads = 4, kSeconds = 5;
  Bucket bucket({.per_second = 1'000'000, .burst = kBurst});
  std::atomic<uint64_t> passed = 0;
  std::atomic<int> ms = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      while (ms < kSeconds * 1000) {
        while (bucket.take(kBytes, ms)) passed += kBytes;
        ms.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  while (bucket.take(kBytes, kSeconds * 1000)) passed += kBytes;
  const uint64_t exact = kBurst + kSeconds * 1'000'000;
  // Time that passes between two frames never adds more than the bucket holds.
  CHECK(passed <= exact + kBytes + kSeconds * 1000 && passed >= exact - kBurst);
}

// Each direction of a connection has a thread, and a third thread reads.
void test_tracking() {
  constexpr uint64_t kFrames = 100'000;
  Connection connection = {};
  connection.protocol = 6;
  std::vector<std::thread> threads;
  for (const bool reply : {false, true}) {
    threads.emplace_back([&, reply] {
      uint8_t segment[54] = {};
      segment[34 + 12] = 0x50;
      segment[34 + 13] = 16;
      const Frame frame = {segment, sizeof segment, {}};
      for (uint64_t i = 0; i < kFrames; ++i) track(&connection, reply, frame, 34, static_cast<double>(i));
    });
  }
  for (uint64_t seen = 0; seen < kFrames;) seen = relaxed_load(connection.half(1).packets);
  for (std::thread& thread : threads) thread.join();
  for (const bool reply : {false, true}) {
    CHECK(connection.half(reply).packets == kFrames && connection.half(reply).seen == kSeenAck);
  }
}

// Even if the controlling thread takes the turn again and again, everybody gets it.
void test_turns() {
  Turn turn;
  uint64_t guarded = 0;
  std::atomic<bool> stop = false;
  std::thread worker([&] {
    turn.begin();
    while (!stop) {
      ++guarded;
      if (turn.wanted()) turn.yield();
    }
    turn.end();
  });
  for (uint64_t i = 0, last = 0; i < 2000; ++i) {
    std::lock_guard guard(turn);
    CHECK(guarded >= last);
    last = ++guarded;
  }
  stop = true;
  worker.join();
}

void test_wait_policy() {
  int64_t now = 1'000'000'000'000, delayed = 0;
  const auto count = [&] { return delayed; };
  const auto short_waits = [](WaitPolicy* policy, uint32_t times) {
    for (uint32_t i = 0; i < times; ++i) policy->slept(WaitPolicy::kAwakeNs);
  };

  WaitPolicy idle;
  for (int i = 0; i < 100; ++i) {
    CHECK(!idle.awake(now, count));
    idle.slept(1'000'000);
  }

  // Each wait in vain doubles the number of short waits of the next attempt, and each successful one halves it.
  WaitPolicy policy;
  for (uint32_t wanted = WaitPolicy::kLeast; wanted < 2 * WaitPolicy::kMost; wanted *= 2) {
    const uint32_t least = std::min(wanted, WaitPolicy::kMost);
    short_waits(&policy, least - 1);
    CHECK(!policy.awake(now, count));
    short_waits(&policy, 1);
    CHECK(policy.awake(now, count));
    policy.in_vain();
    CHECK(!policy.awake(now, count));
  }
  short_waits(&policy, WaitPolicy::kMost);
  for (int i = 0; i < 20; ++i) {
    CHECK(policy.awake(now, count));
    policy.came();
  }
  policy.slept(1'000'000);
  CHECK(!policy.awake(now, count));
  short_waits(&policy, WaitPolicy::kLeast);
  CHECK(policy.awake(now, count));

  policy.much();
  CHECK(!policy.awake(now, count));
  short_waits(&policy, WaitPolicy::kLeast);
  CHECK(policy.awake(now, count));

  // Busy processors are noticed within the time of one sample, and so is their end.
  now += WaitPolicy::kSampleNs;
  delayed += WaitPolicy::kSampleNs / WaitPolicy::kBusyPart + 1;
  CHECK(!policy.awake(now, count));
  CHECK(!policy.awake(now + WaitPolicy::kSampleNs - 1, count));
  now += WaitPolicy::kSampleNs;
  delayed += WaitPolicy::kSampleNs / WaitPolicy::kBusyPart;
  CHECK(policy.awake(now, count));

  WaitPolicy uncounted;
  short_waits(&uncounted, WaitPolicy::kMost);
  CHECK(!uncounted.awake(now, [] { return int64_t{-1}; }));
}

}  // namespace

int main() {
  test_wait_policy();
  if (geteuid() != 0) {
    fprintf(stderr, "worker_test needs root\n");
    return 1;
  }
  CHECK(unshare(CLONE_NEWNET) == 0);
  loopback_up();
  test_turns();
  test_bucket();
  test_tracking();
  test_rate();
  for (const size_t count : {1, 2}) test_floods(count);
  test_flood_burst();
  for (size_t workers : {1, 3}) test_under_load(workers);
  printf("worker_test: ok\n");
}
