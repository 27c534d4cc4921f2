// The workers of a switch, as one.
//
//   TAP queue 0, socket 0 ──► Worker 0: Datapath ──► any TAP's queue 0, socket pool
//   TAP queue 1, socket 1 ──► Worker 1: Datapath ──► any TAP's queue 1, socket pool
//
// Worker i owns queue i of every TAP, a receiving socket of the underlay, and a
// flow cache and undecided flows of its own. The kernel gives each flow to one
// queue (io/steering.h) and each outer flow to one socket (SO_REUSEPORT), so a
// flow stays with one worker and in order, and workers share nothing but the
// token buckets of ports that have rates, since a rate is the port's, and the table
// of connections: replies may come by another queue.
//
// The fragments of a datagram come to one worker, which tracks them: queues, and the
// source ports that VTEPs send from, do not depend on the L4 ports that only the
// first has. From a VTEP where they do, later fragments may come to another worker,
// wait there for a first that does not come, and are dropped.
//
// Every worker has every cached flow: an exact one may come by any queue. What
// bounds memory is each worker's; numbers are sums. A sum is exact, since no frame
// goes from one worker to another.
//
// All methods are the controlling thread's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker.h"

namespace weft {

class Workers {
 public:
  static constexpr size_t kMost = kMaxQueues;
  static_assert(kMost <= PendingTable::kMostWorkers, "a token has no room for so many workers: widen kWorkerBits in pending.h");

  // `count` workers, 1 … kMost; the rest as Worker has it.
  Workers(Worker::Mode mode, size_t count, size_t flow_cap, ConnectionTable* connections, uint64_t seed, const MemoryHooks& hooks,
          const std::function<void()>& wake);
  ~Workers() { close(); }

  int start();
  // Closes all ports; TAPs stay.
  void close();
  bool manual() const { return workers_[0]->manual(); }
  void set_clock(double ms);

  // Opens TAPs and adds each as the port of its number. The error of each as below.
  void add_taps(const std::vector<uint16_t>& numbers, std::vector<TapOpening>* openings);
  // 0 or -errno; nothing is left behind on failure. -EEXIST and -EALREADY as
  // Datapath::add_port; of these the caller makes sure, since tap_open returns
  // -EEXIST too.
  int add_vxlan(uint16_t number, const uint8_t local[16], uint16_t l4_port);
  int add_memory(uint16_t number, bool offloads);
  int add_memory_vxlan(uint16_t number, const uint8_t local[16]);
  // From now on, with full buckets; without such a port nothing.
  void set_rates(uint16_t number, const PortRates& rates);
  // Where the tuples of what comes in by the port mean something; until then, nowhere.
  void set_place(uint16_t number, uint32_t place);
  // What `tap_renew` says of the TAP of that port; -ENOENT without one.
  int renew_tap(uint16_t number);
  // 0, also without such a port, or -errno of removing the TAP, which stays with `keep`.
  int remove_port(uint16_t number, bool keep);

  // Manual mode: a burst of the port `number`, to the worker of its first frame's flow.
  void receive(uint16_t number, const Frame* frames, size_t count);
  void receive_datagrams(uint16_t number, const UnderlaySource* sources, const Frame* payloads, size_t count);

  void execute(Token token, const Action* actions, size_t count);
  void originate(const Frame& frame, const Action* actions, size_t count);
  bool flow_put(uint32_t id, const Words& key, const Words& mask, const Action* actions, size_t count,
                bool of_connections = false);
  void flow_del(uint32_t id);

  // Of all workers: as Worker::take_waiting.
  Worker::Waiting take_waiting(UpcallRecord* to, size_t max);

  // Sums of the workers' numbers.
  struct Totals {
    Counters counters;
    size_t held = 0;
    size_t flows = 0;
    size_t masks = 0;
    Refusals refused;
    struct PortTotal {
      uint16_t number;
      PortCounters counters;
    };
    std::vector<PortTotal> ports;
  };
  Totals totals();

  struct FlowTotal {
    uint32_t id;
    uint64_t packets;
    uint64_t bytes;
    double last_used_ms;
    Words key;
    Words mask;
    std::vector<Action> actions;
  };
  // Up to `max` flows from the cursor `from` (0) on. Sets where to go on, or SlotIndex::kNone.
  std::vector<FlowTotal> dump(uint32_t from, size_t max, uint32_t* next);
  // The flow with this id; empty without one.
  std::vector<FlowTotal> flow(uint32_t id);

  // Runs `work(datapath)` in a turn of each.
  template <typename Work>
  void each(Work work) {
    for (const std::unique_ptr<Worker>& worker : workers_) worker->with(work);
  }

 private:
  int add_tap(uint16_t number, const TapOpened& opened);
  int add(uint16_t number, const std::function<int(size_t index, Port*)>& open);
  Worker& worker_of(const Frame& frame);
  void add_other_workers(std::vector<FlowTotal>* flows);

  std::vector<std::unique_ptr<Worker>> workers_;
  size_t first_ = 0;  // that upcalls were taken from
};

}  // namespace weft
