#include "liveness.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace weft {
namespace {

std::array<uint8_t, 16> id_of(const uint8_t address[16]) {
  std::array<uint8_t, 16> id;
  memcpy(id.data(), address, id.size());
  return id;
}

// Spreads the probes of a session to a peer over the last quarter of the interval.
double pause_ms(uint64_t session, uint32_t seq, const uint8_t address[16], double interval_ms) {
  uint32_t hash = static_cast<uint32_t>(session) ^ seq * 0x9e3779b1u ^ load32(address + 12);
  hash = (hash ^ hash >> 16) * 0x85ebca6bu;
  hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
  return interval_ms * (1024 - (hash >> 24)) / 1024;
}

uint8_t lost_of(uint64_t history, uint32_t expected) {
  return static_cast<uint8_t>(expected - static_cast<uint32_t>(std::popcount(history)));
}

}  // namespace

void Liveness::configure(const LivenessSettings& settings, double now_ms) {
  const bool same_session = settings.session == settings_.session;
  // Peers judge by the interval that they were told last.
  const bool is_news = settings.interval_ms != settings_.interval_ms;
  std::vector<Peer> peers;
  std::map<std::array<uint8_t, 16>, size_t> places;
  keyed_ = 0;
  for (const PeerKey& one : settings.peers) {
    if (!places.emplace(id_of(one.address), peers.size()).second) continue;
    Peer* known = find(one.address);
    const bool stays = known && same_session && known->configured.has_key == one.has_key &&
                       memcmp(known->configured.key, one.key, sizeof one.key) == 0;
    if (stays) {
      if (is_news) known->due_ms = now_ms;
      peers.push_back(std::move(*known));
    } else {
      Peer peer;
      peer.configured = one;
      if (one.has_key) peer.key = std::make_unique<Hmac>(one.key);
      peer.seq = peer.echoed_seq = highest_seq_;
      peer.since_ms = peer.due_ms = now_ms;
      changed_ = changed_ || known;
      peers.push_back(std::move(peer));
    }
    if (one.has_key) ++keyed_;
  }
  peers_ = std::move(peers);
  places_ = std::move(places);
  settings_ = settings;
  due_ms_ = active() ? now_ms : kNever;
}

void Liveness::open(const uint8_t* local, double now_ms) {
  is_open_ = local;
  if (local) memcpy(local_, local, sizeof local_);
  for (Peer& peer : peers_) {
    changed_ = changed_ || peer.state != PeerState::unprobed;
    forget(&peer, now_ms);
  }
  due_ms_ = active() ? now_ms : kNever;
}

// Its sequence numbers go on, since its peers remember them.
void Liveness::forget(Peer* peer, double now_ms) const {
  Peer fresh;
  fresh.configured = peer->configured;
  fresh.key = std::move(peer->key);
  fresh.seq = fresh.echoed_seq = peer->seq;
  fresh.since_ms = fresh.due_ms = now_ms;
  *peer = std::move(fresh);
}

Liveness::Peer* Liveness::find(const uint8_t address[16]) {
  const auto at = places_.find(id_of(address));
  return at == places_.end() ? nullptr : &peers_[at->second];
}

double Liveness::interval_of(const Peer& peer) const { return std::max(settings_.interval_ms, peer.interval_ms); }

// Has it missed a probe?
bool Liveness::is_stale(const Peer& peer, double now_ms) const {
  return now_ms - peer.heard_ms - peer.excused_ms > 1.5 * interval_of(peer);
}

// 2. Heard

Reason Liveness::receive(const uint8_t source[16], const uint8_t* frame, uint32_t length, double now_ms) {
  Probe probe;
  if (!parse_probe(frame, length, &probe)) return Reason::probe_malformed;
  Peer* peer = find(source);
  if (!is_open_ || !peer || !peer->key) return refuse(source, Reason::probe_unknown_peer, now_ms);
  if (memcmp(probe.sender, source, 16) != 0 || memcmp(probe.receiver, local_, 16) != 0) {
    return refuse(source, Reason::probe_unauthentic, now_ms);
  }
  const bool is_current = probe.session == peer->session;
  const bool is_new = !is_current && probe.session == peer->new_session;
  if ((is_current && probe.seq <= peer->heard_seq) || (is_new && probe.seq <= peer->new_seq)) {
    return Reason::probe_replayed;
  }
  if (!is_current && !is_new && !may_check(peer, now_ms)) return Reason::probe_limit;
  if (!is_authentic(frame, length, *peer->key)) return refuse(source, Reason::probe_unauthentic, now_ms);

  const bool echoes = probe.your_session == settings_.session && probe.your_seq <= peer->seq;
  if (is_current) {
    hear(peer, probe, echoes, now_ms);
  } else if (echoes && probe.your_seq > peer->echoed_seq) {
    adopt(peer, probe, now_ms);
  } else {
    meet(peer, probe, now_ms);
  }
  return kNoDrop;
}

Reason Liveness::refuse(const uint8_t source[16], Reason reason, double now_ms) {
  const auto at = std::find_if(strangers_.begin(), strangers_.end(), [&](const Stranger& one) {
    return one.reason == reason && memcmp(one.address, source, 16) == 0;
  });
  Stranger stranger = {{}, reason, 1, now_ms};
  memcpy(stranger.address, source, 16);
  if (at != strangers_.end()) {
    stranger.count += at->count;
    strangers_.erase(at);
  } else if (strangers_.size() == kMostStrangers) {
    strangers_.erase(strangers_.begin());
  }
  strangers_.push_back(stranger);
  return reason;
}

// A bucket of kCheckBurst checks that gets one more every kCheckMs.
bool Liveness::may_check(Peer* peer, double now_ms) {
  if (peer->checks_full_ms - now_ms > (kCheckBurst - 1) * kCheckMs) return false;
  peer->checks_full_ms = std::max(peer->checks_full_ms, now_ms) + kCheckMs;
  return true;
}

// It may be a recording, so nothing follows from it but that the peer is told what was heard.
void Liveness::meet(Peer* peer, const Probe& probe, double now_ms) {
  peer->new_session = probe.session;
  peer->new_seq = probe.seq;
  peer->new_ms = now_ms;
  if (!peer->session || is_stale(*peer, now_ms)) hurry(peer, now_ms);
}

void Liveness::adopt(Peer* peer, const Probe& probe, double now_ms) {
  // A host that was started again does not speak for its former self.
  if (peer->session && !is_stale(*peer, now_ms)) sign_of_twin(peer, now_ms);
  peer->is_greeted = peer->state == PeerState::up;
  peer->session = probe.session;
  peer->heard_seq = probe.seq - 1;
  peer->adopted_ms = now_ms;
  peer->history = 0;
  peer->expected = 0;
  peer->new_session = 0;
  peer->new_seq = 0;
  peer->new_ms = -1;
  hear(peer, probe, true, now_ms);
  hurry(peer, now_ms);
}

void Liveness::hear(Peer* peer, const Probe& probe, bool echoes, double now_ms) {
  if (peer->new_ms > peer->heard_ms && peer->heard_ms >= 0) sign_of_twin(peer, now_ms);
  if (peer->hears && !echoes && probe.your_session != 0) sign_of_twin(peer, now_ms);
  const bool was_up = peer->is_up();
  const bool was_hearing = peer->hearing;
  const uint32_t gap = probe.seq - peer->heard_seq;
  peer->history = gap >= 64 ? 1 : peer->history << gap | 1;
  peer->expected = std::min<uint32_t>(64, peer->expected + std::min<uint32_t>(gap, 64));
  peer->heard_seq = probe.seq;
  peer->heard_ms = now_ms;
  peer->excused_ms = 0;
  peer->interval_ms = probe.interval_ms;
  peer->hearing = true;
  peer->hears = echoes && probe.hears;
  if (peer->hears) peer->is_greeted = false;
  if (echoes) {
    if (probe.your_seq > peer->echoed_seq) {
      const double rtt = now_ms - peer->sent_ms[probe.your_seq % kSentTimes] - probe.held_us / 1e3;
      const bool is_remembered = peer->seq - probe.your_seq < kSentTimes;
      if (is_remembered && rtt >= 0) peer->rtt_ms = peer->rtt_ms < 0 ? rtt : peer->rtt_ms + (rtt - peer->rtt_ms) / 8;
      peer->echoed_seq = probe.your_seq;
    }
    peer->out_lost = probe.lost;
    peer->out_of = probe.of;
  }
  peer->vni_count = probe.vni_count;
  peer->vnis.assign(probe.vnis, probe.vnis + probe.listed());
  due_ms_ = std::min(due_ms_, now_ms + window_of(*peer));
  if (!was_hearing || peer->is_up() != was_up) hurry(peer, now_ms);
  if (peer->is_up() != was_up) settle(now_ms);
}

void Liveness::hurry(Peer* peer, double now_ms) {
  if (now_ms - peer->hurry_from_ms >= settings_.interval_ms) {
    peer->hurry_from_ms = now_ms;
    peer->hurries = 0;
  }
  if (peer->hurries == kHurries) return;
  ++peer->hurries;
  peer->due_ms = std::min(peer->due_ms, now_ms);
  due_ms_ = std::min(due_ms_, now_ms);
}

void Liveness::sign_of_twin(Peer* peer, double now_ms) {
  if (now_ms - peer->twin_ms > 10 * window_of(*peer)) peer->twin_signs = 0;
  peer->twin_signs = std::min(peer->twin_signs + 1, kTwinSigns);
  peer->twin_ms = now_ms;
}

// 1. Sent, 3. judged

void Liveness::run(double now_ms, const Send& send, const Drained& drained) {
  if (!active() || now_ms < due_ms_) return;
  note_lateness(now_ms - due_ms_, now_ms);
  double due = kNever;
  double read_until = -kNever;
  for (Peer& peer : peers_) {
    if (!peer.key) continue;
    due = std::min(due, judge(&peer, now_ms, &read_until, drained));
    if (peer.due_ms <= now_ms) send_to(&peer, now_ms, send);
    due = std::min(due, peer.due_ms);
  }
  settle(now_ms);
  due_ms_ = std::max(due, now_ms + kLeastPauseMs);
}

void Liveness::note_lateness(double late_ms, double now_ms) {
  const double interval = settings_.interval_ms;
  if (late_ms > interval / 2) {
    for (Peer& peer : peers_) peer.excused_ms += late_ms;
  }
  // While it starts, nobody expects anything of it yet.
  const bool is_known = std::any_of(peers_.begin(), peers_.end(), [](const Peer& peer) { return peer.is_up(); });
  if (late_ms <= interval || !is_known) return;
  const double longest = interval * settings_.multiplier;
  slow_ms_ = std::min(std::max(late_ms, now_ms < slow_until_ms_ ? slow_ms_ : 0), longest);
  slow_until_ms_ = now_ms + kSlowIntervals * interval;
}

// At most so many milliseconds pass between two probes; peers wait for `multiplier` times as many.
uint16_t Liveness::promised_ms(double now_ms) const {
  const double more = now_ms < slow_until_ms_ ? std::ceil(slow_ms_ / settings_.multiplier) : 0;
  return static_cast<uint16_t>(std::min(settings_.interval_ms + more, 65535.0));
}

// Returns when to judge again.
double Liveness::judge(Peer* peer, double now_ms, double* read_until, const Drained& drained) {
  const double window = window_of(*peer);
  if (now_ms >= peer->adopted_ms + window) peer->is_greeted = false;
  if (!peer->hearing) return kNever;
  const double end = peer->heard_ms + peer->excused_ms + window;
  if (now_ms < end) return end;
  if (*read_until < end) *read_until = drained(now_ms);
  if (*read_until < end) return now_ms + kDrainMs;
  peer->hearing = false;
  hurry(peer, now_ms);
  return kNever;
}

void Liveness::send_to(Peer* peer, double now_ms, const Send& send) {
  Probe probe;
  ++peer->seq;
  highest_seq_ = std::max(highest_seq_, peer->seq);
  peer->sent_ms[peer->seq % kSentTimes] = now_ms;
  peer->due_ms = now_ms + pause_ms(settings_.session, peer->seq, peer->configured.address, settings_.interval_ms);
  probe.hears = peer->hearing;
  probe.interval_ms = promised_ms(now_ms);
  probe.seq = peer->seq;
  probe.session = settings_.session;
  memcpy(probe.sender, local_, 16);
  memcpy(probe.receiver, peer->configured.address, 16);
  const bool to_new = peer->new_session && (!peer->session || is_stale(*peer, now_ms));
  const double heard_ms = to_new ? peer->new_ms : peer->heard_ms;
  probe.your_session = to_new ? peer->new_session : peer->session;
  probe.your_seq = to_new ? peer->new_seq : peer->heard_seq;
  if (probe.your_session) {
    probe.held_us = static_cast<uint32_t>(std::min(std::round((now_ms - heard_ms) * 1e3), 4294967295.0));
  }
  probe.lost = lost_of(peer->history, peer->expected);
  probe.of = static_cast<uint8_t>(peer->expected);
  const size_t vnis = settings_.vnis.size();
  probe.vni_count = vnis > kProbeVnis ? kTooManyVnis : static_cast<uint32_t>(vnis);
  std::copy_n(settings_.vnis.begin(), probe.listed(), probe.vnis);
  uint8_t frame[kMostProbeBytes];
  const uint32_t length = write_probe(probe, *peer->key, frame);
  send(peer->configured.address, peer->seq, frame, length);
}

// 4. What follows for all of them

void Liveness::settle(double now_ms) {
  uint32_t known = 0, gone = 0;
  const auto counts = [&](const Peer& peer) {
    const bool was_up = peer.state == PeerState::up || peer.state == PeerState::suspect;
    return was_up || now_ms - peer.lost_ms <= 2 * window_of(peer);
  };
  for (const Peer& peer : peers_) {
    if (!counts(peer)) continue;
    ++known;
    if (!peer.is_up() || is_stale(peer, now_ms)) ++gone;
  }
  const bool is_cut_off = known >= 3 && 2 * gone > known;
  for (Peer& peer : peers_) {
    if (!peer.session) continue;
    if (peer.is_up()) {
      set_state(&peer, PeerState::up, now_ms);
    } else if (peer.state == PeerState::unprobed && now_ms - peer.adopted_ms < window_of(peer)) {
      continue;
    } else {
      set_state(&peer, is_cut_off && counts(peer) ? PeerState::suspect : PeerState::down, now_ms);
    }
  }
}

void Liveness::set_state(Peer* peer, PeerState state, double now_ms) {
  if (peer->state == state) return;
  if (peer->state == PeerState::up) peer->lost_ms = now_ms;
  peer->state = state;
  peer->since_ms = now_ms;
  changed_ = true;
}

// 5. Told

bool Liveness::take_changed() { return std::exchange(changed_, false); }

PeerFault Liveness::fault_of(const Peer& peer, double now_ms) const {
  if (!peer.key) return PeerFault::no_key;
  if (peer.state == PeerState::up) return PeerFault::none;
  const bool is_met = peer.new_session && now_ms - peer.new_ms <= window_of(peer);
  return peer.hearing || is_met ? PeerFault::unheard : PeerFault::silent;
}

std::vector<PeerReport> Liveness::peers(double now_ms) const {
  std::vector<PeerReport> reports;
  for (const Peer& peer : peers_) {
    PeerReport report = {};
    memcpy(report.address, peer.configured.address, 16);
    report.state = peer.state;
    report.fault = fault_of(peer, now_ms);
    report.has_twin = peer.twin_signs == kTwinSigns && now_ms - peer.twin_ms <= 10 * window_of(peer);
    report.since_ms = peer.since_ms;
    report.heard_ms = std::max(peer.heard_ms, peer.new_ms);
    report.rtt_ms = peer.rtt_ms;
    report.in_lost = lost_of(peer.history, peer.expected);
    report.in_of = static_cast<uint8_t>(peer.expected);
    report.out_lost = peer.out_lost;
    report.out_of = peer.out_of;
    report.tells_vnis = peer.session && peer.vni_count != kTooManyVnis;
    report.vnis = peer.vnis;
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace weft
