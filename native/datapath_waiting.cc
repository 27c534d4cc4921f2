// What waits for the rate of its port (rate_queue.h), and floods that are sent in parts (flood.h).
#include <string.h>

#include <algorithm>
#include <utility>

#include "datapath.h"

namespace weft {

// Rates

// `frame` may not pass now, because others are waiting in its queue, or because its bucket does not have enough.
void Datapath::wait(Port* port, bool ingress, const Frame& frame, const Words& key, uint16_t from, uint32_t bytes) {
  RateQueue& queue = ingress ? port->ingress_queue : port->egress_queue;
  const Bucket& bucket = ingress ? *port->ingress : *port->egress;
  const bool first = queue.empty();
  if (!queue.push(frame, key, from, bytes, bucket.queue())) {
    return drop(from, ingress ? Reason::rate_limit_ingress : Reason::rate_limit_egress);
  }
  ++queued_;
  if (!first) return;
  waiting_.push_back({port->number, ingress});
  release_due_ms_ = std::min(release_due_ms_, bucket.again_ms(now_ms_));
}

// A frame from an ingress queue may then have to wait in an egress queue. If that queue was empty, it
// is appended to the list, so this loop reaches it too.
void Datapath::release() {
  if (now_ms_ < release_due_ms_) return;
  release_due_ms_ = kNever;
  size_t kept = 0;
  for (size_t i = 0; i < waiting_.size(); ++i) {
    const Waiting waiting = waiting_[i];
    if (release(port(waiting.port), waiting.ingress)) waiting_[kept++] = waiting;
  }
  waiting_.resize(kept);
}

// Returns true if some frames still wait.
bool Datapath::release(Port* port, bool ingress) {
  RateQueue& queue = ingress ? port->ingress_queue : port->egress_queue;
  Bucket* bucket = (ingress ? port->ingress : port->egress).get();
  while (!queue.empty()) {
    if (bucket && !bucket->take(queue.front().bytes, now_ms_)) {
      release_due_ms_ = std::min(release_due_ms_, bucket->again_ms(now_ms_));
      return true;
    }
    const QueuedFrame one = queue.pop();
    --queued_;
    if (ingress) {
      enter(port->number, one.key, one.frame.frame(), kNoArrival);
    } else {
      send(port, one.frame.frame(), one.from);
    }
  }
  return false;
}

void Datapath::rates_changed() {
  release_due_ms_ = 0;
  release();
}

// Called when `port` has been removed.
void Datapath::drop_queued(Port* port) {
  for (; !port->ingress_queue.empty(); --queued_) drop(port->ingress_queue.pop().from, Reason::upcall_lost);
  for (; !port->egress_queue.empty(); --queued_) drop(port->egress_queue.pop().from, Reason::port_gone);
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.port == port->number; });
}

// Floods

bool Datapath::floods_with(const Words& key, const Frame& frame, const Action* actions, size_t count) {
  if (!floods_in_parts_ || count <= kFloodedAtOnce) return false;
  const Flow* flow = cached(key, frame, find_connection(key, frame));
  return flow && flow->program.size() == count && memcmp(flow->program.begin(), actions, count * kActionBytes) == 0;
}

void Datapath::wait_to_flood(WaitingFlood flood) {
  floods_.answers += flood.is_answer;
  floods_.waiting.push_back(std::move(flood));
}

bool Datapath::flood(size_t most) {
  for (;;) {
    for (; floods_.is_sending(); --most) {
      if (most == 0) return true;
      send_to(floods_.actions[floods_.at++], floods_.frame, floods_.key, floods_.first.from);
    }
    floods_.answers -= std::exchange(floods_.first.is_answer, false);
    if (floods_.waiting.empty()) break;
    if (most == 0) return true;
    --most;
    floods_.first = std::move(floods_.waiting.front());
    floods_.waiting.pop_front();
    const WaitingFlood& first = floods_.first;
    is_first_flood_ = true;
    decide(first.from, first.key, first.frame.frame(), kNoArrival);
    is_first_flood_ = false;
  }
  floods_.first = {};
  return false;
}

void Datapath::begin_flood(const Action* actions, size_t count, const Frame& frame, const Key& key) {
  floods_.frame = frame;
  floods_.key = key;
  floods_.actions.assign(actions, actions + count);
  floods_.at = 0;
}

void Datapath::end_flood() {
  while (floods_.is_sending()) send_to(floods_.actions[floods_.at++], floods_.frame, floods_.key, floods_.first.from);
}

size_t Datapath::drop_floods(uint16_t from) {
  if (floods_.first.from == from) end_flood();
  return std::erase_if(floods_.waiting, [&](const WaitingFlood& flood) {
    if (flood.from != from) return false;
    floods_.answers -= flood.is_answer;
    return true;
  });
}

}  // namespace weft
