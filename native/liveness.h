// Which other VTEPs are alive: what is sent to them, what they say, and what follows from it (ideas of RFC 5880
// and RFC 8971). src/datapath/reference/liveness.ts is the same in TypeScript.
//
//   unprobed ──each has heard the other──► up ◄──again── down, or suspect
//                                          └─nothing heard, or not heard by it, for a window─►┘
//
// 1. Every interval (less up to a quarter, so that hosts do not keep step), each peer gets a probe
//    (probe.h), which says what was heard of it. If a new one is heard, it gets one at once.
// 2. A peer is heard by authentic probes in ascending order. A session that is new to this host must
//    prove that it is not a recording: it echoes this session and a sequence number that is higher than
//    any echoed before.
// 3. A peer from which nothing was heard for `multiplier` intervals, its own or this host's, whichever
//    is longer, is no longer heard. It is down then, and also if it says that it does not hear this
//    host. One that has never echoed this session is not down: it may be the kernel's VXLAN device.
// 4. Slowness of this host is no sign of death. If the judge itself comes late by more than half an
//    interval, that time counts in no window; and nobody is judged before everything that had arrived by
//    the end of the window was read (`Drained`). Peers cannot know why nothing is heard of this host, so it
//    tells them beforehand: if it was late by more than an interval, its probes say for the next
//    kSlowIntervals that it takes longer, so that windows are longer by as much, at most twice as long.
// 5. If more than half of the peers, of three or more, are gone at about the same time, it is
//    probably this host that is cut off: they are suspect, and frames go on to them.
//
// Whoever is no peer with a key costs a look into a table, and who knows no session a bounded number of
// HMACs; neither gets an answer.
//
// Not for several threads at once: prober.h has the lock, the thread and the sockets.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include "probe.h"
#include "reason.h"

namespace weft {

enum class PeerState : uint8_t { unprobed, up, down, suspect };
// Why it is not up.
enum class PeerFault : uint8_t { none, no_key, silent, unheard };

struct PeerKey {
  uint8_t address[16];
  bool has_key;
  uint8_t key[Hmac::kKeyBytes];
};

struct LivenessSettings {
  uint64_t session = 0;  // random, not 0
  uint32_t interval_ms = 300;
  uint32_t multiplier = 3;
  std::vector<PeerKey> peers;
  std::vector<uint32_t> vnis;  // of this host's networks, ascending
};

// A peer as it is reported.
struct PeerReport {
  uint8_t address[16];
  PeerState state;
  PeerFault fault;
  bool has_twin;       // two hosts send from its address, or it hears two from this host's
  double since_ms;     // when it got this state
  double heard_ms;     // its last probe; negative: none
  double rtt_ms;       // smoothed; negative: not known
  uint8_t in_lost, in_of, out_lost, out_of;  // of the last probes from it, and to it
  bool tells_vnis;
  std::vector<uint32_t> vnis;
};

// Someone whose probes are refused. Anybody can forge them.
struct Stranger {
  uint8_t address[16];
  Reason reason;
  uint64_t count;
  double last_ms;
};

class Liveness {
 public:
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  static constexpr size_t kMostStrangers = 16;

  // Sends a probe to an address; `entropy` chooses the source port.
  using Send = std::function<void(const uint8_t to[16], uint32_t entropy, const uint8_t* frame, uint32_t length)>;
  // Until when everything that has arrived was read.
  using Drained = std::function<double(double now_ms)>;

  // Peers that stay, with the same key, keep what is known of them.
  void configure(const LivenessSettings& settings, double now_ms);
  // The tunnel is open at this address, or closed (null). All begin anew.
  void open(const uint8_t* local, double now_ms);
  // Is anybody probed?
  bool active() const { return is_open_ && keyed_ > 0; }

  // A probe from the tunnel, from its Ethernet header on. kNoDrop if it was taken.
  Reason receive(const uint8_t source[16], const uint8_t* frame, uint32_t length, double now_ms);
  // Sends what is due, and judges. Call it again at `due_ms`.
  void run(double now_ms, const Send& send, const Drained& drained);
  double due_ms() const { return due_ms_; }

  // Has the state of any peer changed since the last call?
  bool take_changed();
  bool has_changed() const { return changed_; }
  std::vector<PeerReport> peers(double now_ms) const;
  const std::vector<Stranger>& strangers() const { return strangers_; }

 private:
  static constexpr size_t kSentTimes = 8;
  // How soon it asks again whether everything was read.
  static constexpr double kDrainMs = 2;
  static constexpr double kSlowIntervals = 100;
  // Probes are sent together if they are due at nearly the same time.
  static constexpr double kLeastPauseMs = 2;
  static constexpr uint32_t kHurries = 3;       // extra probes to a peer in an interval
  static constexpr double kCheckMs = 50;        // an HMAC for a session that is not known, so often for each peer,
  static constexpr double kCheckBurst = 20;     // and so many at once
  static constexpr uint32_t kTwinSigns = 3;

  struct Peer {
    PeerKey configured;
    std::unique_ptr<Hmac> key;
    // Sent:
    uint32_t seq = 0;
    double sent_ms[kSentTimes] = {};
    double due_ms = 0;
    double hurry_from_ms = -kNever;
    uint32_t hurries = 0;
    // Heard, of its session; 0: none has proved to be alive.
    uint64_t session = 0;
    uint32_t heard_seq = 0;
    double heard_ms = -1;
    double excused_ms = 0;  // since then, the judge was late by so much
    double adopted_ms = 0;
    uint32_t interval_ms = 0;
    uint64_t history = 0;   // of its last probes, those that have arrived, the latest in bit 0
    uint32_t expected = 0;  // how many bits of it mean something, 64 at most
    bool hearing = false;
    // Said by it:
    uint32_t echoed_seq = 0;
    bool hears = false;
    bool is_greeted = false;  // its new session may still say for a window that it does not hear this host
    double rtt_ms = -1;
    uint8_t out_lost = 0, out_of = 0;
    uint32_t vni_count = kTooManyVnis;
    std::vector<uint32_t> vnis;
    // A session that has not proved anything yet.
    uint64_t new_session = 0;
    uint32_t new_seq = 0;
    double new_ms = -1;
    double checks_full_ms = 0;
    // Signs of two hosts with one address, since the last one that was alone for long.
    uint32_t twin_signs = 0;
    double twin_ms = -kNever;

    PeerState state = PeerState::unprobed;
    double since_ms = 0;
    double lost_ms = -kNever;  // when it last ceased to be up

    bool is_up() const { return hearing && (hears || is_greeted); }
  };

  Peer* find(const uint8_t address[16]);
  Reason refuse(const uint8_t source[16], Reason reason, double now_ms);
  bool may_check(Peer* peer, double now_ms);
  void meet(Peer* peer, const Probe& probe, double now_ms);
  void adopt(Peer* peer, const Probe& probe, double now_ms);
  void hear(Peer* peer, const Probe& probe, bool echoes, double now_ms);
  void hurry(Peer* peer, double now_ms);
  void sign_of_twin(Peer* peer, double now_ms);
  void send_to(Peer* peer, double now_ms, const Send& send);
  void note_lateness(double late_ms, double now_ms);
  uint16_t promised_ms(double now_ms) const;
  double judge(Peer* peer, double now_ms, double* read_until, const Drained& drained);
  void settle(double now_ms);
  void set_state(Peer* peer, PeerState state, double now_ms);
  double interval_of(const Peer& peer) const;
  double window_of(const Peer& peer) const { return settings_.multiplier * interval_of(peer); }
  bool is_stale(const Peer& peer, double now_ms) const;
  void forget(Peer* peer, double now_ms) const;
  PeerFault fault_of(const Peer& peer, double now_ms) const;

  LivenessSettings settings_;
  bool is_open_ = false;
  uint8_t local_[16] = {};
  std::vector<Peer> peers_;  // in the order of the settings
  std::map<std::array<uint8_t, 16>, size_t> places_;
  size_t keyed_ = 0;
  uint32_t highest_seq_ = 0;  // of all that were sent in this session: a peer that is added again goes on from there
  std::vector<Stranger> strangers_;  // least recently seen first
  double due_ms_ = kNever;
  double slow_ms_ = 0;  // until `slow_until_ms_`, it may be late by so much
  double slow_until_ms_ = -kNever;
  bool changed_ = false;
};

}  // namespace weft
