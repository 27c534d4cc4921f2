// The HMAC of probes against published values, and two switches that probe each other with all their threads,
// over sockets of the kernel, while the controlling threads change their minds. Mainly for the sanitizers.
// Needs root, and works in a namespace of its own.
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "../workers.h"
#include "check.h"
#include "loopback.h"

using namespace weft;

namespace {

std::string hex(const Digest& digest) {
  std::string text;
  for (uint8_t byte : digest) {
    char two[3];
    snprintf(two, sizeof two, "%02x", byte);
    text += two;
  }
  return text;
}

Digest sha256(const std::string& text) {
  Sha256 sha;
  // In pieces, across the ends of blocks.
  for (size_t at = 0; at < text.size(); at += 7) {
    sha.add(reinterpret_cast<const uint8_t*>(text.data()) + at, std::min<size_t>(7, text.size() - at));
  }
  return sha.finish();
}

Digest hmac(std::string key, const std::string& text) {
  key.resize(Hmac::kKeyBytes);
  return Hmac(reinterpret_cast<const uint8_t*>(key.data())).of(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

void test_hmac() {
  // FIPS 180-4 and its examples.
  CHECK(hex(sha256("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex(sha256("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hex(sha256(std::string(1'000'000, 'a'))) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  // RFC 4231, test cases 1, 2 and 4.
  CHECK(hex(hmac(std::string(20, '\x0b'), "Hi There")) == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(hex(hmac("Jefe", "what do ya want for nothing?")) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  std::string key;
  for (char byte = 1; byte <= 25; ++byte) key += byte;
  CHECK(hex(hmac(key, std::string(50, '\xcd'))) == "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
}

PeerKey peer(uint8_t host) {
  PeerKey key = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, host}, true, {9}};
  return key;
}

// A peer is judged only when everything that had arrived by the end of its window was read.
void test_drained() {
  const PeerKey one = {{2}, true, {7}}, other = {{1}, true, {7}};
  LivenessSettings mine, theirs;
  mine.session = 1;
  mine.peers = {one};
  theirs.session = 2;
  theirs.peers = {other};
  Liveness here, there;
  double now = 1000;
  here.open(other.address, now);
  there.open(one.address, now);
  here.configure(mine, now);
  there.configure(theirs, now);
  double read_until = 1e9;
  const auto drained = [&](double) { return read_until; };
  for (const double end = 4000; now < end; now += 5) {
    here.run(now, [&](const uint8_t*, uint32_t, const uint8_t* frame, uint32_t length) { there.receive(other.address, frame, length, now); }, drained);
    there.run(now, [&](const uint8_t*, uint32_t, const uint8_t* frame, uint32_t length) { here.receive(one.address, frame, length, now); }, drained);
  }
  CHECK(here.peers(now)[0].state == PeerState::up);
  const double heard = here.peers(now)[0].heard_ms;
  // From here on nothing arrives, and what is queued has not been read.
  read_until = heard + 899;
  const auto nobody = [](const uint8_t*, uint32_t, const uint8_t*, uint32_t) {};
  for (; now < heard + 3000; now += 5) here.run(now, nobody, drained);
  CHECK(here.peers(now)[0].state == PeerState::up);
  read_until = heard + 900;
  here.run(now, nobody, drained);
  CHECK(here.peers(now)[0].state == PeerState::down);
}

// How far a socket was read.
void test_read_until() {
  Underlay from, to;
  CHECK(from.open(peer(5).address, 4790, false) == 0 && to.open(peer(6).address, 4790, false) == 0);
  uint8_t payload[100] = {};
  const iovec part = {payload, sizeof payload};
  const auto send = [&] {
    CHECK(from.send(peer(6).address, 0, 0, &part, 1, 1).datagrams == 0);
    pollfd readable = {to.fd(), POLLIN, 0};
    CHECK(poll(&readable, 1, 10'000) == 1);
  };
  Burst burst;
  CHECK(to.read_until_ms(1) == 1);  // nothing waits
  send();
  CHECK(to.read_until_ms(2) == 1);
  CHECK(to.receive(&burst) == 0 && burst.frames.size() == 1);
  CHECK(to.read_until_ms(3) == 1);  // it is in the hands of the reader
  to.handled();
  CHECK(to.read_until_ms(4) == 4);
  // Something always waits, and the reader keeps up.
  send();
  CHECK(to.read_until_ms(5) == 4);
  for (int i = 0; i < 2; ++i) {
    CHECK(to.read_until_ms(6 + i) == 4);  // what it reached the end of may have been less
    CHECK(to.receive(&burst) == 0);
    to.handled();
    send();
  }
  CHECK(to.read_until_ms(8) == 5);
}

struct Host {
  std::atomic<int> wakes = 0;
  Workers workers;
  LivenessSettings settings;

  Host(uint8_t own, uint8_t other)
      : workers(Worker::Mode::threaded, 2, 16, nullptr, 1, {}, [this] { ++wakes; }) {
    CHECK(workers.start() == 0);
    workers.set_clock(5000);
    settings.session = own;
    settings.interval_ms = 50;
    settings.peers = {peer(other)};
    CHECK(workers.add_vxlan(1, peer(own).address, 4789) == 0);
    workers.prober().configure(settings);
  }

  PeerState state() { return workers.prober().peers()[0].state; }

  template <typename Condition>
  void wait(Condition condition) {
    const timespec pause = {0, 5'000'000};
    for (int tries = 0; !condition(); ++tries) {
      CHECK(tries < 12'000);
      nanosleep(&pause, nullptr);
      UpcallRecord upcalls[1];
      workers.take_waiting(upcalls, 1);
      workers.prober().take_changed();
    }
  }
  void wait_for(PeerState wanted) {
    wait([&] { return state() == wanted; });
  }

  void check() {
    const Workers::Totals totals = workers.totals();
    CHECK(is_conserved(totals.counters, totals.held));
  }
};

void test_threads() {
  Host a(1, 2);
  {
    Host b(2, 1);
    a.wait_for(PeerState::up);
    b.wait_for(PeerState::up);
    CHECK(a.wakes > 0 && b.wakes > 0);
    const PeerReport report = a.workers.prober().peers()[0];
    CHECK(report.rtt_ms >= 0 && report.rtt_ms < 60'000);
    // Settings that change, and a tunnel that is closed and opened, all the while.
    for (uint32_t i = 0; i < 50; ++i) {
      a.settings.vnis = {i + 1};
      a.workers.prober().configure(a.settings);
      a.check();
    }
    b.wait([&] {
      const PeerReport told = b.workers.prober().peers()[0];
      return told.tells_vnis && told.vnis == std::vector<uint32_t>{50};
    });
    CHECK(a.workers.remove_port(1, false) == 0);
    b.wait_for(PeerState::down);
    CHECK(a.workers.add_vxlan(1, peer(1).address, 4789) == 0);
    a.wait_for(PeerState::up);
    b.wait_for(PeerState::up);
    b.check();
  }
  a.wait_for(PeerState::down);
  a.check();
}

}  // namespace

int main() {
  test_hmac();
  test_drained();
  CHECK(unshare(CLONE_NEWNET) == 0);
  loopback_up();
  test_read_until();
  test_threads();
  printf("liveness: ok\n");
  return 0;
}
