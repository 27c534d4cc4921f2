#include "datapath.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "checksum.h"
#include "ecn.h"
#include "fragment.h"
#include "io/tap.h"
#include "nat.h"
#include "offload.h"
#include "refuse.h"
#include "rewrite.h"
#include "vxlan.h"

namespace weft {
namespace {

// True if a port with these offloads can be given a frame with this header.
bool takes(uint8_t offloads, const VnetHdr& vnet) {
  if (!(vnet.flags & kNeedsCsum)) return true;
  switch (gso_kind(vnet)) {
    case kGsoNone:
      return offloads & kOffloadCsum;
    case kGsoTcp4:
      return offloads & kOffloadTso4;
    case kGsoTcp6:
      return offloads & kOffloadTso6;
    default:
      return offloads & kOffloadUso;
  }
}

// True if this program routes, translates, answers or cuts it, and does not just carry it.
bool is_handled(const Action* actions, const Frame& frame) {
  for (; preparation(actions->op); ++actions) {
    if (actions->op == Op::track || actions->op == Op::count) continue;
    if (actions->op != Op::mtu || packet_bytes(frame) > actions->argument) return true;
  }
  return false;
}

// The input port of frames that weft made.
constexpr uint16_t kNoPort = 0;

static_assert(kSendBatch * (kVxlanBytes + kMaxHeaders) <= kVxlanBytes + kMaxFrame);

// True if this program cannot send it any further, not even in fragments.
bool too_big(const Action* actions, const Frame& frame, const Key& key) {
  if (connects(actions->op)) ++actions;
  return actions->op == Op::mtu && packet_bytes(frame) > actions->argument && !may_fragment(frame, key);
}

// True if it is sent to a group address, or to more than one place.
bool is_flooded(const Action* actions, size_t count, const Key& key) {
  const bool group = key.eth_dst[0] & 1;
  if (count == 1 && !group) return false;
  for (; preparation(actions->op); ++actions) --count;
  return (group || count > 1) && (actions->op == Op::output || actions->op == Op::encap);
}

// What a frame to weft's own sockets takes of the rates for these: one for each packet, and one more for each KiB, since
// what waits there takes memory.
uint64_t socket_units(const Frame& frame) { return segment_count(frame) + frame.length / 1024; }

}  // namespace

Datapath::Datapath(size_t flow_cap, ConnectionTable* connections, uint64_t seed, uint32_t worker, MemoryHooks hooks)
    : cache_(flow_cap, seed),
      connections_(connections),
      pending_(seed, worker),
      fragments_(seed),
      hooks_(std::move(hooks)),
      scratch_(std::make_unique_for_overwrite<uint8_t[]>(kVxlanBytes + kMaxFrame)),
      assembled_(std::make_unique_for_overwrite<uint8_t[]>(2 * kMaxFrame)) {}

void Datapath::set_now(double now_ms) {
  now_ms_ = now_ms;
  fragments_.expire(now_ms, [&](uint16_t port, size_t frames) { drop(port, Reason::fragment_timeout, frames); });
}

// Ports

int Datapath::add_port(std::unique_ptr<Port> port) {
  const uint16_t number = port->number;
  if (this->port(number)) return -EEXIST;
  if (port->is_tunnel() && tunnel_) return -EALREADY;
  if (port->is_tunnel()) tunnel_ = number;
  if (floods_.is_for(number)) end_flood();
  port->serial = ++last_serial_;
  if (number >= ports_.size()) ports_.resize(number + 1u);
  ports_[number] = std::move(port);
  return 0;
}

std::unique_ptr<Port> Datapath::take_port(uint16_t number) {
  if (!port(number)) return nullptr;
  std::unique_ptr<Port> port = std::move(ports_[number]);
  if (tunnel_ == number) tunnel_ = 0;
  drop_queued(port.get());
  drop(number, Reason::upcall_lost, pending_.drop_port(number) + fragments_.drop_port(number) + drop_floods(number));
  return port;
}

std::vector<uint16_t> Datapath::port_numbers() const {
  std::vector<uint16_t> numbers;
  for (const std::unique_ptr<Port>& port : ports_) {
    if (port) numbers.push_back(port->number);
  }
  return numbers;
}

// 1. Receive … 3. Extract: datapath_receive.cc. 4. Coalesced

// Lookups mostly wait for memory. Doing all of a burst at once lets them wait
// together.
size_t Datapath::look_up(uint16_t number) {
  arrivals_ = &coalescer_.finish();
  opened_ = connections_ ? connections_->opened() : 0;
  found_connections_.clear();
  if (connections_ && !connections_->empty() && look_up_connections(number)) {
    look_up_flows();
    return arrivals_->size();
  }
  keys_.clear();
  for (const Arrival& arrival : *arrivals_) keys_.push_back(&arrival.key);
  found_.resize(keys_.size());
  cache_.lookup(keys_.data(), keys_.size(), found_.data());
  return arrivals_->size();
}

// Of the arrivals that got no flow from a connection.
void Datapath::look_up_flows() {
  keys_.clear();
  unknown_.clear();
  for (uint32_t i = 0; i < found_.size(); ++i) {
    if (found_[i]) continue;
    keys_.push_back(&(*arrivals_)[i].key);
    unknown_.push_back(i);
  }
  found_of_unknown_.resize(keys_.size());
  cache_.lookup(keys_.data(), keys_.size(), found_of_unknown_.data());
  for (size_t i = 0; i < unknown_.size(); ++i) found_[unknown_[i]] = found_of_unknown_[i];
}

void Datapath::forward(uint16_t number, size_t index) {
  const Arrival& arrival = (*arrivals_)[index];
  Port& port = received(number, arrival.frames, arrival.bytes);
  counters_.coalesced += arrival.frames - 1;
  if (port.ingress) {
    const uint32_t bytes = wire_bytes(arrival.frame);
    if (!port.ingress_queue.empty() || !port.ingress->take(bytes, now_ms_)) {
      return wait(&port, true, arrival.frame, arrival.key, number, bytes);
    }
  }
  enter(number, arrival.key, arrival.frame, index);
}

void Datapath::enter(uint16_t number, const Words& key, const Frame& frame, size_t arrival) {
  if (key.is_fragment()) return gather(number, key.key(), frame);
  if (segment_count(frame) <= kMaxSegments) return decide(number, key, frame, arrival);
  ++counters_.segments;
  Halves halves(frame);
  decide(number, key, halves.first(), arrival);
  decide(number, key, halves.second(), arrival);
}

// 5. Gather

void Datapath::gather(uint16_t number, Key key, const Frame& frame) {
  const FragmentTracker::Tracked tracked = fragments_.track(number, &key, frame, now_ms_);
  drop(number, Reason::fragment_limit, tracked.gave_way);
  if (tracked.waits) return;
  if (tracked.refused != kNoDrop) return drop(number, tracked.refused, 1 + tracked.with_it);
  decide(number, Words::of(key), frame, kNoArrival);
  for (const WaitingFragment& one : fragments_.take_released()) {
    decide(number, Words::of(one.key), one.frame.frame(), kNoArrival);
  }
}

// 6. Parked, 7. connection and flow cache, unless that was already looked up for the arrival.

void Datapath::decide(uint16_t number, const Words& words, const Frame& frame, size_t arrival) {
  // Undecided frames of a flow wait together, whether or not its connection has been opened since.
  Words undecided = words;
  undecided.set_ct_state(kCtNone);
  const Key key = undecided.key();
  const uint32_t parked = pending_.find(undecided);
  if (parked != PendingTable::kNone && !is_icmp_error(key)) {
    const Reason refused = pending_.park(parked, undecided, frame);
    if (refused != kNoDrop) drop(number, refused);
    return;
  }
  Found connection;
  Flow* flow;
  if (is_looked_up(arrival)) {
    if (!found_connections_.empty()) connection = found_connections_[arrival];
    flow = found_[arrival];
  } else {
    connection = find_connection(words, frame);
    flow = cached(undecided, frame, connection);
  }
  if (flow && flow->program.begin()->op == Op::balance) {
    count(flow, frame);
    if (!connection) connection = balance(*flow->program.begin(), undecided, frame);
    if (connection.refused) return drop(number, Reason::half_open_limit);
    flow = nullptr;
  }
  if (!flow && connection) {
    Words current = undecided;
    current.set_ct_state(ct_state_of(connection, undecided, frame));
    flow = take_flow_of_others(connection, current);
  }
  if (!flow) return miss(number, key, frame, connection);
  if (floods_in_parts_ && flow->program.size() > kFloodedAtOnce && !is_first_flood_) {
    if (!flood_room(number)) return drop(number, Reason::storm_control);
    return wait_to_flood({ParkedFrame(frame), words, number, false});
  }
  if (!is_first_flood_ || !floods_.first.is_answer) count(flow, frame);
  if (is_first_flood_) floods_.flow = flow->id;
  const Action* actions = flow->program.begin();
  if (too_big(actions, frame, key)) return stopped(number, key, frame);
  size_t size = flow->program.size();
  const bool begins = actions->op == Op::track && !connection;
  if (begins) connection = open(*actions, frame, key);
  if (connection && is_of_connections(*actions)) {
    // What begins a connection mostly has a flow that covers no other packet of it.
    Words next = words;
    if (begins) next.set_ct_state(ct_state_of(connection, undecided, frame));
    if (!begins || cache_.covers(flow, next)) give_flow(connection, *flow);
  }
  // What goes on untracked has nothing to do with connections. But it is treated as they are: it would evade a limit otherwise.
  if (begins && !connection) {
    const Treatment treatment = actions->treatment();
    ++actions;
    --size;
    if (!admits(treatment.meter, frame)) return drop(number, Reason::hook_rate_limit);
    if (treatment.dscp) {
      Key treated = key;
      rewrite_dscp(frame, &treated, treatment.dscp & ~Treatment::kSetsDscp);
      return deliver(actions, size, frame, treated, number, {});
    }
  }
  deliver(actions, size, frame, key, number, connection);
}

// The flow of a frame that was not looked up yet.
Flow* Datapath::cached(const Words& undecided, const Frame& frame, const Found& connection) {
  Words current = undecided;
  current.set_ct_state(ct_state_of(connection, undecided, frame));
  Flow* flow = connection ? flow_of(connection, current) : nullptr;
  return flow ? flow : cache_.lookup(current);
}

void Datapath::count(Flow* flow, const Frame& frame) {
  ++flow->packets;
  flow->bytes += frame.length;
  flow->last_used_ms = now_ms_;
}

void Datapath::miss(uint16_t number, const Key& key, const Frame& frame, const Found& connection) {
  const Port* port = this->port(number);
  const bool was_admitted = is_first_flood_ && floods_.first.is_answer;
  if (!was_admitted && port && port->upcalls && !port->upcalls->miss(key, now_ms_)) {
    return drop(number, Reason::upcall_rate_limit);
  }
  const bool is_balanced = connection && relaxed_load(connection.at->table) != 0;
  const Reason refused = pending_.open(number, key, frame, is_balanced);
  if (refused != kNoDrop) return drop(number, refused);
  ++counters_.upcalls;
}

// It is too big for the path of its flow. The upcall lets the controller tell the sender.
void Datapath::stopped(uint16_t number, const Key& key, const Frame& frame) {
  const Port* port = this->port(number);
  const bool may = !port || !port->upcalls || port->upcalls->too_big(now_ms_);
  if (!may || pending_.open(number, key, frame) != kNoDrop) return drop(number, Reason::too_big);
  ++counters_.upcalls;
}

// 8. Deliver, run

void Datapath::execute(Token token, const Action* actions, size_t count) {
  PendingTable::Released released = pending_.release(token);
  const Key key = released.key.key();
  for (size_t i = 0; i < released.decided; ++i) {
    const Frame frame = released.frames[i].frame();
    // One that is too big ends here: its upcall was the one about that.
    if (!too_big(actions, frame, key) && floods_with(released.key, frame, actions, count)) {
      if (!flood_room(released.port)) {
        drop(released.port, Reason::storm_control);
        continue;
      }
      wait_to_flood({std::move(released.frames[i]), released.key, released.port, true});
      continue;
    }
    const Found connection = find_connection(released.key, frame);
    if (connection) note_flow(connection);
    deliver(actions, count, frame, key, released.port, connection);
  }
  for (size_t i = released.decided; i < released.frames.size(); ++i) {
    decide(released.port, released.key_of(released.frames[i]), released.frames[i].frame(), kNoArrival);
  }
}

void Datapath::originate(Frame frame, const Action* actions, size_t count) {
  ++counters_.originated;
  Key key = {};
  Layout layout;
  const Reason bad = extract(frame.data, frame.length, &key, &layout);
  if (bad != kNoDrop) return drop(kNoPort, bad);
  frame.length = layout.length;
  frame.vnet = {};
  run(actions, count, frame, key, kNoPort, {});
}

void Datapath::deliver(const Action* actions, size_t count, const Frame& frame, const Key& key, uint16_t from,
                       const Found& connection) {
  if (is_flooded(actions, count, key)) {
    const Port* port = this->port(from);
    if (port && port->storm && !port->storm->take(segment_count(frame), now_ms_)) {
      return drop(from, Reason::storm_control);
    }
  }
  run(actions, count, frame, key, from, connection);
}

void Datapath::run(const Action* actions, size_t count, const Frame& frame, const Key& key, uint16_t from,
                   const Found& connection) {
  if (is_ipv4(key) && is_handled(actions, frame) && !has_right_ipv4_header(l3_of(frame, key))) {
    return drop(from, Reason::ipv4_checksum);
  }
  if (connects(actions->op)) {
    uint8_t dscp = 0;
    const Reason refused = connect(*actions, frame, key, connection, &dscp);
    if (refused != kNoDrop) return drop(from, refused);
    ++actions;
    --count;
    if (dscp) {
      Key treated = key;
      rewrite_dscp(frame, &treated, dscp & ~Treatment::kSetsDscp);
      return run(actions, count, frame, treated, from, {});
    }
  }
  if (actions->op == Op::mtu) {
    const uint32_t mtu = actions->argument;
    if (packet_bytes(frame) > mtu) return fragment(actions + 1, count - 1, mtu, frame, key, from);
    ++actions;
    --count;
  }
  size_t first = 0;
  for (; rewrites(actions[first].op); ++first) rewrite(frame, key, actions[first]);
  counters_.copies += count - first - 1;
  const bool is_flood = is_first_flood_ && count - first > kFloodedAtOnce && frame.data == floods_.first.frame.storage.get();
  if (is_flood) return begin_flood(actions + first, count - first, frame, key);
  for (size_t i = first; i < count; ++i) send_to(actions[i], frame, key, from);
}

void Datapath::send_to(const Action& action, const Frame& frame, const Key& key, uint16_t from) {
  switch (action.op) {
    case Op::output:
      output(static_cast<uint16_t>(action.argument), frame, key, from);
      break;
    case Op::encap:
      encap(action, frame, key, from);
      break;
    case Op::drop:
      drop(from, action.reason());
      break;
    case Op::refuse:
      refuse(action, frame, key, from);
      break;
    case Op::consume:
      ++counters_.consumed;
      break;
    case Op::balance:  // only a flow can
      drop(from, Reason::connection_gone);
      break;
    case Op::route:
    case Op::echo:
    case Op::clamp:
    case Op::mtu:
    case Op::nat:
    case Op::related:
    case Op::track:
    case Op::count:
      break;  // only valid before those
  }
}

// Handles each packet of a superframe separately.
void Datapath::fragment(const Action* actions, size_t count, uint32_t mtu, const Frame& frame, const Key& key,
                        uint16_t from) {
  if (!may_fragment(frame, key)) return drop(from, Reason::too_big);
  uint8_t* packet = assembled_.get();
  uint8_t* piece = packet + kMaxFrame;
  const Segments segments(frame);
  counters_.segments += segments.count() - 1;
  for (uint32_t i = 0; i < segments.count(); ++i) {
    const iovec payload = segments.payload(i);
    segments.headers(i, packet);
    memcpy(packet + segments.header_bytes(), payload.iov_base, payload.iov_len);
    const Fragments fragments(packet, segments.bytes(i), mtu);
    counters_.segments += fragments.count() - 1;
    for (uint32_t j = 0; j < fragments.count(); ++j) {
      const uint32_t length = fragments.write(j, piece);
      run(actions, count, Frame{piece, length, {}}, key, from, {});
    }
  }
}

// 9. Output, encap, drop

void Datapath::output(uint16_t number, const Frame& frame, const Key& key, uint16_t from) {
  Port* to = port(number);
  if (!to || to->is_tunnel()) return drop(from, Reason::port_gone);
  if (to->place == kInternal) {
    if (!admits_to_sockets(frame, key, from)) return drop(from, Reason::rate_limit_sockets);
  } else if (to->unanswered && is_udp(key) && is_from_sockets(from)) {
    to->unanswered->give(segment_count(frame));
  }
  if (to->egress) {
    const uint32_t bytes = wire_bytes(frame);
    if (!to->egress_queue.empty() || !to->egress->take(bytes, now_ms_)) return wait(to, false, frame, {}, from, bytes);
  }
  send(to, frame, from);
}

bool Datapath::admits_to_sockets(const Frame& frame, const Key& key, uint16_t from) {
  const Port* port = this->port(from);
  if (!port) return true;
  const uint64_t units = socket_units(frame);
  // What the rate refuses is not on its way, so it does not count as unanswered.
  return (!port->sockets || port->sockets->take(units, now_ms_)) &&
         (!port->unanswered || !is_udp(key) || port->unanswered->take(units, now_ms_));
}

bool Datapath::is_from_sockets(uint16_t from) {
  const Port* port = this->port(from);
  return port && port->place == kInternal;
}

void Datapath::send(Port* to, const Frame& frame, uint16_t from) {
  if (takes(to->offloads, frame.vnet)) return transmit(to, frame, from);
  const Segments segments(frame);
  counters_.segments += segments.count() - 1;
  for (uint32_t i = 0; i < segments.count(); ++i) {
    segments.headers(i, scratch_.get());
    Pieces payload;
    transmit(to, segments.frame(i, scratch_.get(), &payload), from);
  }
}

void Datapath::transmit(Port* to, const Frame& frame, uint16_t from) {
  if (to->kind == PortKind::tap) {
    if (const Reason refused = tap_send(to->tap, frame); refused != kNoDrop) return drop(from, refused);
  } else {
    hooks_.transmit(to->number, frame);
  }
  sent(to, frame);
}

void Datapath::encap(const Action& action, const Frame& frame, const Key& key, uint16_t from) {
  Port* to = port(tunnel_);
  if (!to) return drop(from, Reason::underlay_missing);
  const uint32_t hash = flow_hash(key);
  const uint8_t tos = outer_tos(key, copy_dscp_);
  const Segments segments(frame);
  const uint32_t count = segments.count();
  const size_t each = kVxlanBytes + segments.header_bytes();
  counters_.segments += count - 1;

  for (uint32_t first = 0; first < count; first += kSendBatch) {
    const uint32_t some = std::min<uint32_t>(count - first, kSendBatch);
    iovec parts[2 * kSendBatch];
    for (uint32_t i = 0; i < some; ++i) {
      uint8_t* headers = scratch_.get() + i * each;
      vxlan_header(headers, action.argument);
      segments.headers(first + i, headers + kVxlanBytes);
      parts[2 * i] = {headers, each};
      parts[2 * i + 1] = segments.payload(first + i);
    }
    Refused refused;
    if (to->kind == PortKind::vxlan) {
      refused = to->underlay->send(action.address, hash, tos, parts, 2, some);
    } else {
      for (uint32_t i = 0; i < some; ++i) {
        hooks_.transmit_datagram(to->number, action.address, hash, tos, parts + 2 * i);
      }
    }
    if (refused.datagrams) drop(from, refused.reason, refused.datagrams);
    for (uint32_t i = refused.datagrams; i < some; ++i) {
      Pieces payload;
      sent(to, segments.frame(first + i, scratch_.get() + i * each + kVxlanBytes, &payload));
    }
  }
}
void Datapath::drop(uint16_t from, Reason reason, size_t frames) {
  const auto at = static_cast<size_t>(reason);
  counters_.drops[at] += frames;
  if (Port* port = this->port(from)) port->counters.drops[at] += frames;
}

void Datapath::refuse(const Action& action, const Frame& frame, const Key& key, uint16_t from) {
  if (is_ipv4(key) && !has_right_ipv4_header(l3_of(frame, key))) return drop(from, Reason::ipv4_checksum);
  drop(from, action.reason());
  Port* port = this->port(from);
  const Answerable may = answerable(action, frame, key);
  if (!port || !may.yes) return;
  if (port->answers && !port->answers->take(1, now_ms_)) {
    ++counters_.unanswered;
    ++port->counters.unanswered;
    return;
  }
  uint8_t bytes[kMaxAnswer];
  const uint32_t length = write_answer(action, frame, key, may.l4, scratch_.get(), bytes);
  Action back = {Op::output, {}, from, {}};
  if (from == tunnel_) {
    back = {Op::encap, {}, load32(key.tun_vni), {}};
    memcpy(back.address, key.tun_src, sizeof back.address);
  }
  originate(Frame{bytes, length, {}}, &back, 1);
}

Port& Datapath::received(uint16_t number, uint32_t frames, uint32_t bytes) {
  Port& port = *this->port(number);
  counters_.rx += frames;
  port.counters.rx_frames += frames;
  port.counters.rx_bytes += bytes;
  return port;
}

void Datapath::sent(Port* to, const Frame& frame) {
  ++counters_.tx;
  ++to->counters.tx_frames;
  to->counters.tx_bytes += frame.length;
  if (mirror_.wants(to->number)) mirror_.copy(to->number, Direction::tx, now_ms_, frame);
}

bool Datapath::flow_put(uint32_t id, const Words& key, const Words& mask, const Action* actions, size_t count,
                        bool of_connections) {
  found_.clear();
  Program program = programs_.intern(actions, count);
  const bool put = of_connections ? cache_.put_of_connections(id, key, mask, std::move(program), now_ms_)
                                  : cache_.put(id, key, mask, std::move(program), now_ms_);
  if (floods_.is_sending() && (floods_.flow == id || !std::as_const(cache_).by_id(floods_.flow))) end_flood();
  return put;
}

void Datapath::flow_del(uint32_t id) {
  found_.clear();
  cache_.erase(id);
  if (floods_.flow == id) end_flood();
}

}  // namespace weft
