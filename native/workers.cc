#include "workers.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "extract.h"
#include "io/fd.h"
#include "vxlan.h"

namespace weft {
namespace {

template <typename Counts>
void add_drops(Counts* to, const uint64_t* drops) {
  for (size_t i = 0; i < kReasons; ++i) to->drops[i] += drops[i];
}

// Returns a function that appends each flow passed to it.
auto adder(std::vector<Workers::FlowTotal>* to) {
  return [to](const Flow& flow, const Words& key, const Words& mask) {
    to->push_back({flow.id, flow.packets, flow.bytes, flow.last_used_ms, key, mask,
                   {flow.program.begin(), flow.program.end()}});
  };
}

}  // namespace

Workers::Workers(Worker::Mode mode, size_t count, size_t flow_cap, ConnectionTable* connections, uint64_t seed, const MemoryHooks& hooks,
                 const std::function<void()>& wake)
    : prober_(
          mode == Worker::Mode::threaded,
          [transmit = hooks.transmit_datagram](uint16_t port, const uint8_t to[16], uint32_t hash, const iovec payload[2]) {
            transmit(port, to, hash, 0, payload);
          },
          wake) {
  for (uint32_t i = 0; i < count; ++i) {
    workers_.push_back(std::make_unique<Worker>(mode, i, flow_cap, connections, seed, hooks, wake));
    workers_.back()->set_prober(&prober_);
  }
}

int Workers::start() {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    if (const int error = worker->start()) return error;
  }
  return prober_.start();
}

void Workers::hold() {
  for (const std::unique_ptr<Worker>& worker : workers_) worker->hold();
}

void Workers::begin() {
  for (const std::unique_ptr<Worker>& worker : workers_) worker->begin();
}

void Workers::stop() {
  prober_.close();
  for (const std::unique_ptr<Worker>& worker : workers_) worker->close();
}

void Workers::close() {
  stop();
  std::vector<uint16_t> numbers;
  workers_[0]->with([&](Datapath& datapath) { numbers = datapath.port_numbers(); });
  for (uint16_t number : numbers) remove_port(number, true);
}

void Workers::set_clock(double ms) {
  for (const std::unique_ptr<Worker>& worker : workers_) worker->set_clock(ms);
  prober_.set_clock(ms);
}

// Ports

// Adds a port with that number to each worker after `open` has set it up. If one fails, removes all
// of them again.
int Workers::add(uint16_t number, const std::function<int(size_t index, Port*)>& open) {
  for (size_t i = 0; i < workers_.size(); ++i) {
    auto port = std::make_unique<Port>();
    port->number = number;
    int error = open(i, port.get());
    if (!error) error = workers_[i]->add(std::move(port));
    if (!error) continue;
    for (size_t added = 0; added < i; ++added) workers_[added]->take(number);
    return error;
  }
  return 0;
}

void Workers::add_taps(const std::vector<uint16_t>& numbers, std::vector<TapOpening>* openings) {
  tap_open(openings, workers_.size());
  for (size_t i = 0; i < openings->size(); ++i) {
    TapOpening& opening = (*openings)[i];
    if (!opening.error) opening.error = add_tap(numbers[i], opening.opened);
  }
}

int Workers::add_tap(uint16_t number, const TapOpened& opened) {
  const int error = add(number, [&](size_t index, Port* port) {
    port->kind = PortKind::tap;
    port->tap = opened.fds[index];
    port->backlog = opened.spare ? kBacklog : 0;
    port->offloads = opened.offloads;
    return 0;
  });
  if (!error) return 0;
  if (opened.created) {
    tap_remove(opened.fds[0]);
  } else {
    ::close(opened.fds[0]);
  }
  for (size_t i = 1; i < workers_.size(); ++i) ::close(opened.fds[i]);
  return error;
}

int Workers::add_vxlan(uint16_t number, const uint8_t local[16], uint16_t l4_port, const std::vector<int>& spares) {
  Underlay* first = nullptr;
  std::vector<Underlay*> underlays;
  const int error = add(number, [&](size_t index, Port* port) {
    port->kind = PortKind::vxlan;
    memcpy(port->local, local, sizeof port->local);
    port->underlay = std::make_unique<Underlay>();
    underlays.push_back(port->underlay.get());
    const int spare = index < spares.size() ? spares[index] : -1;
    port->backlog = spare >= 0 ? kBacklog : 0;
    if (index > 0) return port->underlay->join(*first, spare);
    first = port->underlay.get();
    return first->open(local, l4_port, workers_.size() > 1, spare);
  });
  if (!error) prober_.open_tunnel(number, local, std::move(underlays));
  return error;
}

std::vector<int> Workers::descriptors(uint16_t number) {
  std::vector<int> all;
  each([&](Datapath& datapath) {
    const Port* port = datapath.port(number);
    if (port && port->kind == PortKind::tap) all.push_back(port->tap);
    if (port && port->underlay) all.push_back(port->underlay->fd());
  });
  return all;
}

int Workers::add_memory(uint16_t number, bool offloads) {
  return add(number, [&](size_t, Port* port) {
    port->offloads = offloads ? kOffloadAll : 0;
    return 0;
  });
}

int Workers::add_memory_vxlan(uint16_t number, const uint8_t local[16]) {
  const int error = add(number, [&](size_t, Port* port) {
    port->kind = PortKind::memory_vxlan;
    memcpy(port->local, local, sizeof port->local);
    return 0;
  });
  if (!error) prober_.open_tunnel(number, local, {});
  return error;
}

void Workers::set_rates(uint16_t number, const PortRates& rates) {
  const std::shared_ptr<Bucket> ingress = bucket_of(rates.ingress);
  const std::shared_ptr<Bucket> egress = bucket_of(rates.egress);
  const std::shared_ptr<Bucket> storm = bucket_of(rates.storm);
  const std::shared_ptr<Bucket> answers = bucket_of(rates.answers);
  const std::shared_ptr<Bucket> sockets = bucket_of(rates.sockets);
  const std::shared_ptr<Bucket> unanswered = bucket_of(rates.unanswered);
  const std::shared_ptr<UpcallBuckets> upcalls = rates.upcalls.per_second ? std::make_shared<UpcallBuckets>(rates.upcalls) : nullptr;
  each([&](Datapath& datapath) {
    Port* port = datapath.port(number);
    if (!port) return;
    port->ingress = ingress;
    port->egress = egress;
    port->storm = storm;
    port->answers = answers;
    port->sockets = sockets;
    port->unanswered = unanswered;
    port->upcalls = upcalls ? std::make_unique<UpcallRate>(rates.upcalls, workers_.size(), upcalls) : nullptr;
    datapath.rates_changed();
  });
}

void Workers::set_place(uint16_t number, uint32_t place) {
  each([&](Datapath& datapath) {
    if (Port* port = datapath.port(number)) port->place = place;
  });
}

Fd Workers::tap(uint16_t number) {
  Fd tap;
  workers_[0]->with([&](Datapath& datapath) {
    const Port* port = datapath.port(number);
    if (port && port->kind == PortKind::tap) tap = Fd(fcntl(port->tap, F_DUPFD_CLOEXEC, 0));
  });
  return tap;
}

int Workers::renew_tap(uint16_t number) {
  const Fd tap = this->tap(number);
  return tap.get() < 0 ? -ENOENT : tap_renew(tap.get());
}

int Workers::find_tap(uint16_t number, TapPlace* place) {
  const Fd tap = this->tap(number);
  return tap.get() < 0 ? -ENOENT : tap_place(tap.get(), place);
}

int Workers::remove_port(uint16_t number, bool keep) {
  prober_.close_tunnel(number);
  int error = 0;
  bool first = true;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    const std::unique_ptr<Port> port = worker->take(number);
    if (!port || port->kind != PortKind::tap) continue;
    if (first && !keep) {
      error = tap_remove(port->tap);
    } else {
      ::close(port->tap);
    }
    first = false;
  }
  return error;
}

// Frames

// Steers as the kernel does: by the flow, and fragments by their addresses.
Worker& Workers::worker_of(const Frame& frame) {
  Key key = {};
  Layout layout;
  if (workers_.size() == 1 || extract(frame.data, frame.length, &key, &layout) != kNoDrop) return *workers_[0];
  if (key.ip_frag != kFragNone) {
    memset(key.eth_dst, 0, sizeof key.eth_dst);
    memset(key.eth_src, 0, sizeof key.eth_src);
    key.ip_proto = 0;
  }
  return *workers_[flow_hash(key) % workers_.size()];
}

void Workers::receive(uint16_t number, const Frame* frames, size_t count) {
  if (count == 0) return;
  worker_of(frames[0]).with([&](Datapath& datapath) {
    const size_t arrivals = datapath.receive(number, frames, count);
    for (size_t i = 0; i < arrivals; ++i) datapath.forward(number, i);
  });
}

void Workers::receive_datagrams(uint16_t number, const UnderlaySource* sources, const Frame* payloads, size_t count) {
  if (count == 0) return;
  Frame inner = payloads[0];
  uint32_t vni;
  vxlan_decap(&inner, &vni);
  worker_of(inner).with([&](Datapath& datapath) {
    const size_t arrivals = datapath.receive_datagrams(number, sources, payloads, count);
    for (size_t i = 0; i < arrivals; ++i) datapath.forward(number, i);
  });
}

void Workers::execute(Token token, const Action* actions, size_t count) {
  const uint32_t index = PendingTable::worker_of(token);
  if (index >= workers_.size()) return;
  workers_[index]->with([&](Datapath& datapath) { datapath.execute(token, actions, count); });
}

void Workers::originate(const Frame& frame, const Action* actions, size_t count) {
  workers_[0]->with([&](Datapath& datapath) { datapath.originate(frame, actions, count); });
}

// Flows

bool Workers::flow_put(uint32_t id, const Words& key, const Words& mask, const Action* actions, size_t count,
                       bool of_connections) {
  // All workers have the same flows, so either all refuse or none does.
  bool put = true;
  each([&](Datapath& datapath) { put = datapath.flow_put(id, key, mask, actions, count, of_connections) && put; });
  return put;
}

void Workers::flow_del(uint32_t id) {
  each([&](Datapath& datapath) { datapath.flow_del(id); });
}

std::vector<Workers::FlowTotal> Workers::dump(uint32_t from, size_t max, uint32_t* next) {
  std::vector<FlowTotal> flows;
  workers_[0]->with([&](Datapath& datapath) { *next = datapath.flows().dump(from, max, adder(&flows)); });
  add_other_workers(&flows);
  return flows;
}

std::vector<Workers::FlowTotal> Workers::flow(uint32_t id) {
  std::vector<FlowTotal> flows;
  workers_[0]->with([&](Datapath& datapath) { datapath.flows().visit(id, adder(&flows)); });
  add_other_workers(&flows);
  return flows;
}

// `flows` are those of the first worker; adds the counts of the others.
void Workers::add_other_workers(std::vector<FlowTotal>* flows) {
  for (size_t i = 1; i < workers_.size(); ++i) {
    workers_[i]->with([&](Datapath& datapath) {
      for (FlowTotal& total : *flows) {
        const Flow* flow = datapath.flows().by_id(total.id);
        if (!flow) continue;
        total.packets += flow->packets;
        total.bytes += flow->bytes;
        total.last_used_ms = std::max(total.last_used_ms, flow->last_used_ms);
      }
    });
  }
}

// Upcalls, numbers

Worker::Waiting Workers::take_waiting(UpcallRecord* to, size_t max) {
  Worker::Waiting all;
  // A different worker comes first each time, so one that always fills a batch does not keep the others waiting.
  first_ = (first_ + 1) % workers_.size();
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker::Waiting one = workers_[(first_ + i) % workers_.size()]->take_waiting(to + all.upcalls, max - all.upcalls);
    all.upcalls += one.upcalls;
    all.mirrored.append(std::move(one.mirrored));
    for (const Worker::LostPort& lost : one.lost) {
      const bool known = std::any_of(all.lost.begin(), all.lost.end(), [&](const auto& it) { return it.port == lost.port; });
      if (!known) all.lost.push_back(lost);
    }
  }
  return all;
}

Workers::Totals Workers::totals() {
  Totals totals;
  each([&](Datapath& datapath) {
    const Counters& one = datapath.counters();
    Counters& all = totals.counters;
    all.rx += one.rx;
    all.originated += one.originated;
    all.copies += one.copies;
    all.segments += one.segments;
    all.tx += one.tx;
    all.consumed += one.consumed;
    all.coalesced += one.coalesced;
    all.upcalls += one.upcalls;
    all.unanswered += one.unanswered;
    add_drops(&all, one.drops);
    totals.held += datapath.held();
    totals.flows = datapath.flows().flows();
    totals.masks = datapath.flows().masks();
    totals.refused = datapath.flows().refused();
    for (uint16_t number : datapath.port_numbers()) {
      auto at = std::find_if(totals.ports.begin(), totals.ports.end(), [&](const auto& port) { return port.number == number; });
      if (at == totals.ports.end()) at = totals.ports.insert(at, {number, {}});
      const PortCounters& from = datapath.port(number)->counters;
      PortCounters& sum = at->counters;
      sum.rx_frames += from.rx_frames;
      sum.rx_bytes += from.rx_bytes;
      sum.tx_frames += from.tx_frames;
      sum.tx_bytes += from.tx_bytes;
      sum.unanswered += from.unanswered;
      add_drops(&sum, from.drops);
    }
  });
  const Prober::Counts probes = prober_.counts();
  totals.counters.originated += probes.originated;
  totals.counters.tx += probes.tx;
  add_drops(&totals.counters, probes.drops);
  for (Totals::PortTotal& port : totals.ports) {
    if (port.number != probes.port) continue;
    port.counters.tx_frames += probes.port_frames;
    port.counters.tx_bytes += probes.port_bytes;
  }
  return totals;
}

}  // namespace weft
