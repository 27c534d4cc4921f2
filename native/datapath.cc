#include "datapath.h"

#include <errno.h>

#include <utility>

#include "checksum.h"
#include "extract.h"
#include "io/tap.h"
#include "vnet.h"
#include "vxlan.h"

namespace weft {
namespace {

// The input port of frames that weft made.
constexpr uint16_t kNoPort = 0;

Key key_of_port(uint16_t number) {
  Key key = {};
  store16(key.in_port + 2, number);
  return key;
}

}  // namespace

Datapath::Datapath(size_t flow_limit, uint64_t seed, MemoryHooks hooks)
    : cache_(flow_limit, seed), pending_(seed, 0), hooks_(std::move(hooks)) {}

// Ports

int Datapath::add_port(std::unique_ptr<Port> port) {
  const uint16_t number = port->number;
  if (this->port(number)) return -EEXIST;
  if (port->is_tunnel() && tunnel_) return -EALREADY;
  if (port->is_tunnel()) tunnel_ = number;
  port->serial = ++last_serial_;
  if (number >= ports_.size()) ports_.resize(number + 1u);
  ports_[number] = std::move(port);
  return 0;
}

std::unique_ptr<Port> Datapath::take_port(uint16_t number) {
  if (!port(number)) return nullptr;
  std::unique_ptr<Port> port = std::move(ports_[number]);
  if (tunnel_ == number) tunnel_ = 0;
  drop(number, Reason::upcall_lost, pending_.drop_port(number));
  return port;
}

std::vector<uint16_t> Datapath::port_numbers() const {
  std::vector<uint16_t> numbers;
  for (const std::unique_ptr<Port>& port : ports_) {
    if (port) numbers.push_back(port->number);
  }
  return numbers;
}

// 1. Receive

void Datapath::receive(uint16_t number, Frame frame) {
  if (!vnet_accept(&frame)) {
    received(number, frame.length);
    return drop(number, Reason::bad_vnet_hdr);
  }
  Key key = key_of_port(number);
  classify(number, frame, &key);
}

// 2. Decapsulate

void Datapath::receive_datagram(uint16_t number, const uint8_t source[16], Frame frame) {
  uint32_t vni;
  if (!vxlan_decap(&frame, &vni)) {
    received(number, frame.length);
    return drop(number, Reason::vxlan_malformed);
  }
  if (memcmp(source, port(number)->local, 16) == 0) {
    received(number, frame.length);
    return drop(number, Reason::vxlan_own_address);
  }
  Key key = key_of_port(number);
  store32(key.tun_vni, vni);
  memcpy(key.tun_src, source, 16);
  classify(number, frame, &key);
}

// 3. Extract, 4. parked, 5. flow cache

void Datapath::classify(uint16_t number, Frame frame, Key* key) {
  if (mirror_.wants(number)) mirror_.copy(number, Direction::rx, now_ms_, frame.data, frame.length);
  uint32_t length;
  if (const Reason bad = extract(frame.data, frame.length, key, &length); bad != kNoDrop) {
    received(number, frame.length);
    return drop(number, bad);
  }
  frame.length = length;
  received(number, length);
  if (number == tunnel_) finish_checksum(frame.data, length, *key);

  const Words words = Words::of(*key);
  if (const uint32_t parked = pending_.find(words); parked != PendingTable::kNone) {
    const Reason refused = pending_.park(parked, frame);
    if (refused != kNoDrop) drop(number, refused);
    return;
  }
  if (Flow* flow = cache_.lookup(words)) {
    ++flow->packets;
    flow->bytes += frame.length;
    flow->last_used_ms = now_ms_;
    return run(flow->program.begin(), flow->program.size(), frame, *key, number);
  }
  if (const Reason refused = pending_.open(number, *key, frame); refused != kNoDrop) return drop(number, refused);
  ++counters_.upcalls;
}

// 6. Run

void Datapath::execute(Token token, const Action* actions, size_t count) {
  const PendingTable::Released released = pending_.release(token);
  for (size_t i = 0; i < released.count; ++i) {
    run(actions, count, released.frames[i].frame(), released.key, released.port);
  }
}

void Datapath::originate(Frame frame, const Action* actions, size_t count) {
  ++counters_.originated;
  Key key = {};
  const Reason bad = extract(frame.data, frame.length, &key, &frame.length);
  if (bad != kNoDrop) return drop(kNoPort, bad);
  run(actions, count, frame, key, kNoPort);
}

void Datapath::run(const Action* actions, size_t count, const Frame& frame, const Key& key, uint16_t from) {
  counters_.copies += count - 1;
  for (size_t i = 0; i < count; ++i) {
    const Action& action = actions[i];
    switch (action.op) {
      case Op::output:
        output(static_cast<uint16_t>(action.argument), frame, from);
        break;
      case Op::encap:
        encap(action, frame, key, from);
        break;
      case Op::drop:
        drop(from, static_cast<Reason>(action.argument));
        break;
      case Op::consume:
        ++counters_.consumed;
        break;
    }
  }
}

// 7. Output, encap, drop

void Datapath::output(uint16_t number, const Frame& frame, uint16_t from) {
  Port* to = port(number);
  if (to && to->kind == PortKind::tap) {
    const Reason refused = tap_send(to->tap, frame);
    return refused == kNoDrop ? sent(to, frame) : drop(from, refused);
  }
  if (to && to->kind == PortKind::memory) {
    sent(to, frame);
    return hooks_.transmit(number, frame);
  }
  drop(from, Reason::port_gone);
}

void Datapath::encap(const Action& action, const Frame& frame, const Key& key, uint16_t from) {
  Port* to = port(tunnel_);
  if (!to) return drop(from, Reason::underlay_missing);
  const Frame payload = vxlan_encap(frame, action.argument);
  const uint32_t hash = flow_hash(key);
  if (to->kind == PortKind::vxlan) {
    const Reason refused = to->underlay->send(action.address, hash, payload);
    return refused == kNoDrop ? sent(to, frame) : drop(from, refused);
  }
  sent(to, frame);
  hooks_.transmit_datagram(to->number, action.address, hash, payload);
}

void Datapath::drop(uint16_t from, Reason reason, size_t frames) {
  const auto at = static_cast<size_t>(reason);
  counters_.drops[at] += frames;
  if (Port* port = this->port(from)) port->counters.drops[at] += frames;
}

void Datapath::received(uint16_t number, uint32_t bytes) {
  PortCounters& counters = port(number)->counters;
  ++counters_.rx;
  ++counters.rx_frames;
  counters.rx_bytes += bytes;
}

void Datapath::sent(Port* to, const Frame& frame) {
  ++counters_.tx;
  ++to->counters.tx_frames;
  to->counters.tx_bytes += frame.length;
  if (mirror_.wants(to->number)) mirror_.copy(to->number, Direction::tx, now_ms_, frame.data, frame.length);
}

bool Datapath::flow_put(uint32_t id, const Words& key, const Words& mask, const Action* actions, size_t count) {
  return cache_.put(id, key, mask, programs_.intern(actions, count), now_ms_);
}

}  // namespace weft
