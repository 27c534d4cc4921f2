// The workers of a switch, used as one.
//
//   TAP queue 0, socket 0 ──► Worker 0: Datapath ──► any TAP's queue 0, socket pool
//   TAP queue 1, socket 1 ──► Worker 1: Datapath ──► any TAP's queue 1, socket pool
//
// Worker i owns queue i of every TAP, a receiving socket of the underlay, and a flow cache and
// undecided flows of its own. The kernel gives each flow to one queue (io/steering.h) and each outer
// flow to one socket (SO_REUSEPORT), so a flow stays with one worker and in order. Workers share only
// the token buckets of ports that have rates, because a rate belongs to the port, and the table of
// connections, because replies may come through another queue.
//
// The fragments of a datagram all come to one worker, which tracks them: queues, and the source ports
// with which VTEPs send, do not depend on the L4 ports, which only the first fragment has. For a VTEP
// that does use them, later fragments may come to another worker, wait there in vain for a first one,
// and are dropped.
//
// Every worker has every cached flow, because the packets of a flow may come through any queue. Limits
// on memory apply to each worker; numbers are sums. A sum is exact because no frame goes from one
// worker to another. Probes that this host sends are counted by the prober.
//
// Only the controlling thread calls methods.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "io/fd.h"
#include "io/tap.h"
#include "prober.h"
#include "worker.h"

namespace weft {

class Workers {
 public:
  static constexpr size_t kMost = kMaxQueues;
  static_assert(kMost <= PendingTable::kMostWorkers, "a token has no room for so many workers: widen kWorkerBits in pending.h");

  // `count` workers, 1 … kMost; the other arguments are those of Worker.
  Workers(Worker::Mode mode, size_t count, size_t flow_cap, ConnectionTable* connections, uint64_t seed, const MemoryHooks& hooks,
          const std::function<void()>& wake);
  ~Workers() { close(); }

  int start();
  // From `hold` to `begin`, ports receive nothing: what arrives waits in the kernel. Probes are sent all the same.
  void hold();
  void begin();
  // Ends the threads: nothing is received any more. Everything else goes on.
  void stop();
  // Closes all ports; TAPs stay.
  void close();
  bool manual() const { return workers_[0]->manual(); }
  void set_clock(double ms);

  // Opens TAPs and adds each as the port with its number. Errors are set for each, as below.
  void add_taps(const std::vector<uint16_t>& numbers, std::vector<TapOpening>* openings);
  // 0 or -errno; nothing is left behind on failure. -EEXIST and -EALREADY as in Datapath::add_port, but
  // the caller must rule those out itself, since tap_open can return -EEXIST too.
  // `spares` are sockets as in Underlay::open, one for each worker; there may be fewer.
  int add_vxlan(uint16_t number, const uint8_t local[16], uint16_t l4_port, const std::vector<int>& spares = {});
  // The descriptors of a TAP's queues or of the underlay's receiving sockets, one for each worker. They are the port's,
  // and valid until it is removed.
  std::vector<int> descriptors(uint16_t number);
  int add_memory(uint16_t number, bool offloads);
  int add_memory_vxlan(uint16_t number, const uint8_t local[16]);
  // Sets rates, starting with full buckets. Does nothing if there is no such port.
  void set_rates(uint16_t number, const PortRates& rates);
  // Sets the place in which tuples of packets from the port are meaningful; until then there is none.
  void set_place(uint16_t number, uint32_t place);
  // The result of `tap_renew` for the TAP of that port; -ENOENT if there is none.
  int renew_tap(uint16_t number);
  // The result of `tap_place` for it; -ENOENT if there is none.
  int find_tap(uint16_t number, TapPlace* place);
  // 0, also if there is no such port, or -errno from removing the TAP. With `keep`, the TAP stays.
  int remove_port(uint16_t number, bool keep);

  // Manual mode: passes a burst from the port `number` to the worker of its first frame's flow.
  void receive(uint16_t number, const Frame* frames, size_t count);
  void receive_datagrams(uint16_t number, const UnderlaySource* sources, const Frame* payloads, size_t count);

  void execute(Token token, const Action* actions, size_t count);
  void originate(const Frame& frame, const Action* actions, size_t count);
  bool flow_put(uint32_t id, const Words& key, const Words& mask, const Action* actions, size_t count,
                bool of_connections = false);
  void flow_del(uint32_t id);

  // Of all workers; see Worker::take_waiting.
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
  // Up to `max` flows, starting at cursor `from` (0 at first). Sets where to continue, or SlotIndex::kNone.
  std::vector<FlowTotal> dump(uint32_t from, size_t max, uint32_t* next);
  // The flow with this id; empty if there is none.
  std::vector<FlowTotal> flow(uint32_t id);

  Prober& prober() { return prober_; }

  // Runs `work(datapath)` in a turn of each worker.
  template <typename Work>
  void each(Work work) {
    for (const std::unique_ptr<Worker>& worker : workers_) worker->with(work);
  }

 private:
  // A descriptor of its own for that port's TAP, so that the worker continues while it is used; none if there is no TAP.
  Fd tap(uint16_t number);
  int add_tap(uint16_t number, const TapOpened& opened);
  int add(uint16_t number, const std::function<int(size_t index, Port*)>& open);
  Worker& worker_of(const Frame& frame);
  void add_other_workers(std::vector<FlowTotal>* flows);

  Prober prober_;  // used by the workers
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t first_ = 0;  // the worker from which upcalls are taken first
};

}  // namespace weft
