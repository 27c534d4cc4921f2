// The native datapath: what src/datapath/datapath.ts promises, without threads and without
// JavaScript. The path of a burst, with the functions in the same order:
//
//   1. receive            frames from a TAP or a memory port
//      receive_datagrams  or VXLAN payloads from the underlay
//   2. decapsulate        for frames from the tunnel: drops our own address and bad headers; probes of other
//                         VTEPs go no further (prober.h)
//   3. extract            flow key and L3 length; checks offload requests
//   4. coalesce           joins frames that belong together into one superframe
//      forward            takes each resulting frame, in order: within its port's rate, or it waits
//                         for that (rate_queue.h); one with too many segments goes on as two
//   5. gather             gives a fragment the ports of its first one, or lets it wait for that
//                         (fragment_tracker.h)
//   6. parked?            behind the others of its flow, if that is undecided
//   7. connection         if the frame belongs to one (connection_table.h), it has the flow that this
//                         direction took before, and no search is needed
//      balance            if its flow says so, it begins a connection to a backend that a table chooses, and
//                         has the flow of others like it (balancing.h)
//      flow cache         on a hit, run its program; on a miss, park, and make an upcall if the port
//                         and the sender may have one more (upcall_rate.h)
//   8. deliver            storm control: is a flooded frame within its port's rate?
//      run                if it is not just carried, its IPv4 header must have a correct checksum
//                         (RFC 1812 §5.2.2); opens or counts its connection, treats the packet as a hook
//                         has set it for that (treatment.h), translates addresses (nat.h); cuts it into fragments if it is too big (fragment.h), or reports
//                         that in an upcall if it hit a flow; rewrites it (rewrite.h), then runs each
//                         action in order
//   9. output, encap      within the port's rate, to the kernel or to the hooks of memory ports; cut
//                         into segments where superframes cannot go
//      drop               or the reason why not
//      refuse             the same, with an answer to the sender (refuse.h) within the port's rate
//
//   release               what waited for its port's rate goes on at 5 or 9
//   flood                 where floods are sent in parts: one that waited goes on at 6, then at 9 part by part (flood.h)
//   execute               the answer to an upcall: 8 for the parked frames with its key, then 6 for those behind them
//   originate             a frame that weft made: 3, then 8
//
// Ownership: a Datapath belongs to whoever has its turn (worker.h) and is never used by two threads
// at once, so nothing in it is atomic. If there are several workers, each has a Datapath of its own,
// with its ports' queues, its flow cache and its undecided flows. They share only the token buckets
// of ports that have rates (bucket.h), and the connections.
//
// Frames belong to the caller, may be written to, and must stay until they have been forwarded.
// Whatever waits longer is a copy.
//
// The hooks of memory ports are called while a frame runs, and must not call back: they collect their
// frames instead.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "action.h"
#include "balancing.h"
#include "bucket.h"
#include "coalesce.h"
#include "connection_table.h"
#include "counters.h"
#include "flood.h"
#include "flow_cache.h"
#include "fragment_tracker.h"
#include "frame.h"
#include "io/underlay.h"
#include "key.h"
#include "mirror.h"
#include "pending.h"
#include "rate_queue.h"
#include "reason.h"
#include "segment.h"
#include "upcall_rate.h"

namespace weft {

class Prober;

// No place: no connection is looked for.
inline constexpr uint32_t kNowhere = UINT32_MAX;

enum class PortKind : uint8_t { tap, vxlan, memory, memory_vxlan };

// A port of the switch. Whoever adds it sets its number, the fd of a TAP and the sockets, and
// whoever removes it closes them.
struct Port {
  uint16_t number = 0;
  PortKind kind = PortKind::memory;
  int tap = -1;                        // tap
  uint8_t offloads = 0;                // tap, memory: the offloads that it accepts (io/tap.h)
  std::unique_ptr<Underlay> underlay;  // vxlan
  uint8_t local[16] = {};              // vxlan, memory_vxlan: its own address
  uint32_t place = kNowhere;           // others: where tuples of incoming packets are meaningful
  // How many frames may have waited before it was opened, because another process had it (kBacklog). While there are any,
  // the thread reads few at once, and none while some are undecided, so that all of them can be parked.
  uint32_t backlog = 0;
  double backlog_until_ms = 0;
  uint32_t serial = 0;                 // distinguishes it from a later port with the same number
  // Shared by all workers; null without a rate. They count bytes on the wire (wire_bytes); `storm`
  // counts flooded frames, `answers` those to refused frames, and `sockets` those to weft's own sockets (socket_units), of
  // which so many may be `unanswered`.
  std::shared_ptr<Bucket> ingress, egress, storm, answers, sockets, unanswered;
  std::unique_ptr<UpcallRate> upcalls;  // this worker's; null without a rate
  // This worker's frames that wait for these buckets; empty if there are none.
  RateQueue ingress_queue, egress_queue;
  PortCounters counters = {};

  bool is_tunnel() const { return kind == PortKind::vxlan || kind == PortKind::memory_vxlan; }
};

// Takes frames for memory ports. A hook may use the bytes during the call.
struct MemoryHooks {
  std::function<void(uint16_t port, const Frame& frame)> transmit;
  // The payload has two parts, the VXLAN header first. `hash` is that of the inner flow, `tos` is for the outer header.
  std::function<void(uint16_t port, const uint8_t destination[16], uint32_t hash, uint8_t tos, const iovec payload[2])>
      transmit_datagram;
};

class Datapath {
 public:
  // `worker` becomes part of its tokens, 0 … 31. `connections` must live as long as the datapath; null: there are none.
  Datapath(size_t flow_cap, ConnectionTable* connections, uint64_t seed, uint32_t worker, MemoryHooks hooks);
  Datapath(const Datapath&) = delete;
  Datapath& operator=(const Datapath&) = delete;

  // From now on, copies the DSCP into the outer header; otherwise that has DSCP 0.
  void copy_dscp() { copy_dscp_ = true; }

  // From now on, floods are sent by `flood`. Call it whenever any wait.
  void flood_in_parts() { floods_in_parts_ = true; }

  // Takes the probes of other VTEPs; must live as long as the datapath. Without it, all are refused.
  void set_prober(Prober* prober) { prober_ = prober; }

  // Milliseconds for `last_used_ms`, rates, mirrored frames and fragments that have waited too long; not negative.
  void set_now(double now_ms);

  // Ports. `add_port` returns 0, -EEXIST if the number is taken, or -EALREADY for a second tunnel.
  // `take_port` hands the port back to be closed, or returns null if there is none; frames parked
  // from it are dropped.
  int add_port(std::unique_ptr<Port> port);
  std::unique_ptr<Port> take_port(uint16_t number);
  Port* port(uint16_t number) { return number < ports_.size() ? ports_[number].get() : nullptr; }
  // The VXLAN port's number, 0 if there is none.
  uint16_t tunnel() const { return tunnel_; }
  std::vector<uint16_t> port_numbers() const;

  // A burst of frames from the port `number`. The burst must not change until the last of its frames
  // has been forwarded. Returns how many there are to `forward`, each once and in order; one that is not
  // forwarded counts as never received. Of a frame longer than kMaxFrame, only one byte beyond that
  // needs to be readable (in a payload, not counting the VXLAN header).
  size_t receive(uint16_t number, const Frame* frames, size_t count);
  size_t receive_datagrams(uint16_t number, const UnderlaySource* sources, const Frame* payloads, size_t count);
  void forward(uint16_t number, size_t arrival);
  void originate(Frame frame, const Action* actions, size_t count);

  // Sends the waiting frames that the rates now admit.
  void release();
  // When `release` will have something to do again; kNever if nothing waits.
  double release_due_ms() const { return release_due_ms_; }
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  // Called when a port has other buckets, or none, so that waiting frames may be able to go on at once.
  void rates_changed();

  // Floods go on, to `most` destinations. True if some are left.
  bool flood(size_t most);
  bool floods_wait() const { return !floods_.empty(); }
  bool floods_wait(uint16_t from) const { return floods_.of(from) > 0; }
  // How many more floods of a port may wait.
  size_t flood_room(uint16_t from) const { return floods_.room(from, from == tunnel_ ? kFloodsOfTunnel : kFloodsOfPort); }

  // Upcalls and their answers. A stale token does nothing. Actions must be valid. While many answers are flooded, upcalls about
  // frames to groups, whose answers mostly would wait behind them, are not taken.
  size_t take_upcalls(UpcallRecord* to, size_t max) { return pending_.take_upcalls(to, max, floods_.answers < kManyAnswers); }
  bool upcalls_wait() const { return pending_.upcalls_wait(floods_.answers < kManyAnswers); }
  // Is a flow of this port undecided?
  bool undecided(uint16_t number) const { return pending_.has(number); }
  void execute(Token token, const Action* actions, size_t count);

  // Flows; `FlowCache` has the rules. One of connections is found through them, not by any mask.
  bool flow_put(uint32_t id, const Words& key, const Words& mask, const Action* actions, size_t count,
                bool of_connections = false);
  void flow_del(uint32_t id);
  const FlowCache& flows() const { return cache_; }

  Mirror& mirror() { return mirror_; }
  const Counters& counters() const { return counters_; }
  size_t held() const { return pending_.held() + fragments_.held() + queued_ + floods_.held(); }
  // Different programs in the flow cache.
  size_t programs() const { return programs_.size(); }

 private:
  using Found = ConnectionTable::Found;

  // In place of the number of an arrival: nothing was looked up for this frame.
  static constexpr size_t kNoArrival = SIZE_MAX;

  void probed(uint16_t number, const UnderlaySource& source, const Frame& frame);
  void arrive(uint16_t number, Frame frame, Key* key, uint8_t outer_tos, bool alone);
  size_t look_up(uint16_t number);
  bool look_up_connections(uint16_t number);
  void look_up_flows();
  // True if a lookup now would give the same result. A decision in between may have changed the flow cache; a
  // connection that was found may have ended, and one that was missing may have begun.
  bool is_looked_up(size_t arrival) const {
    if (arrival >= found_.size()) return false;
    if (!found_connections_.empty() && found_connections_[arrival]) return found_connections_[arrival].is_open();
    return !connections_ || connections_->opened() == opened_;
  }
  static uint32_t place_of(const Port& port, const Words& key);
  uint32_t place_of(const Words& key);
  Found find_connection(const Words& key, const Frame& frame);
  uint8_t ct_state_of(const Found& connection, const Words& words, const Frame& frame);
  uint8_t state_of_error(const Words& words, const Frame& frame, uint32_t place);
  Flow* flow_of(const Found& connection, const Words& key);
  void give_flow(const Found& connection, const Flow& flow);
  void deliver(const Action* actions, size_t count, const Frame& frame, const Key& key, uint16_t from,
               const Found& connection);
  void enter(uint16_t number, const Words& key, const Frame& frame, size_t arrival);
  bool release(Port* port, bool ingress);
  void wait(Port* port, bool ingress, const Frame& frame, const Words& key, uint16_t from, uint32_t bytes);
  void drop_queued(Port* port);
  void gather(uint16_t number, Key key, const Frame& frame);
  void decide(uint16_t number, const Words& key, const Frame& frame, size_t arrival);
  Flow* cached(const Words& key, const Frame& frame, const Found& connection);
  bool floods_with(const Words& key, const Frame& frame, const Action* actions, size_t count);
  void wait_to_flood(WaitingFlood flood);
  void begin_flood(const Action* actions, size_t count, const Frame& frame, const Key& key);
  void end_flood();
  size_t drop_floods(uint16_t from);
  void miss(uint16_t number, const Key& key, const Frame& frame, const Found& connection);
  void stopped(uint16_t number, const Key& key, const Frame& frame);
  void run(const Action* actions, size_t count, const Frame& frame, const Key& key, uint16_t from,
           const Found& connection);
  void send_to(const Action& action, const Frame& frame, const Key& key, uint16_t from);
  bool admits(const MeterName& meter, const Frame& frame);
  Reason connect(const Action& action, const Frame& frame, const Key& key, Found connection, uint8_t* dscp);
  Found named(const Action& action, const Key& key) const;
  Reason relate(const Action& action, const Frame& frame, const Key& key);
  Found open(const Action& track, const Frame& frame, const Key& key);
  Found balance(const Action& action, const Words& words, const Frame& frame);
  Flow* take_flow_of_others(const Found& connection, const Words& key);
  void note_flow(const Found& connection);
  void count(Flow* flow, const Frame& frame);
  void fragment(const Action* actions, size_t count, uint32_t mtu, const Frame& frame, const Key& key, uint16_t from);
  void output(uint16_t to, const Frame& frame, const Key& key, uint16_t from);
  bool admits_to_sockets(const Frame& frame, const Key& key, uint16_t from);
  bool is_from_sockets(uint16_t from);
  void send(Port* to, const Frame& frame, uint16_t from);
  void transmit(Port* to, const Frame& frame, uint16_t from);
  void encap(const Action& action, const Frame& frame, const Key& key, uint16_t from);
  void refuse(const Action& action, const Frame& frame, const Key& key, uint16_t from);
  Port& received(uint16_t number, uint32_t frames, uint32_t bytes);
  void sent(Port* to, const Frame& frame);
  void drop(uint16_t from, Reason reason, size_t frames = 1);

  Programs programs_;  // destroyed last, because flows refer to it
  FlowCache cache_;
  ConnectionTable* const connections_;
  BalancedWays ways_;
  Prober* prober_ = nullptr;
  PendingTable pending_;
  FragmentTracker fragments_;
  Coalescer coalescer_;
  std::vector<Arrival>* arrivals_ = nullptr;
  // The flows of the arrivals, looked up at once; empty after any change of the flow cache.
  std::vector<Flow*> found_;
  // Their connections; empty if none of them can have one.
  std::vector<Found> found_connections_;
  uint32_t opened_ = 0;  // the number of opened connections at that time
  // During the lookup: frames that may belong to a connection, and frames that got no flow from one.
  struct Probe {
    TupleKey key;
    uint32_t hash;
    uint32_t arrival;
  };
  std::vector<Probe> probes_;
  std::vector<uint32_t> unknown_;
  std::vector<const Words*> keys_;
  std::vector<Flow*> found_of_unknown_;
  Mirror mirror_;
  Counters counters_;
  std::vector<std::unique_ptr<Port>> ports_;  // by number
  // The queues that are not empty, in the order in which they stopped being empty.
  struct Waiting {
    uint16_t port;
    bool ingress;
  };
  std::vector<Waiting> waiting_;
  size_t queued_ = 0;  // frames in them
  double release_due_ms_ = kNever;
  uint16_t tunnel_ = 0;
  uint32_t last_serial_ = 0;
  double now_ms_ = 0;
  bool copy_dscp_ = false;
  bool floods_in_parts_ = false;
  Floods floods_;
  bool is_first_flood_ = false;  // the frame that runs is `floods_.first`
  MemoryHooks hooks_;
  std::unique_ptr<uint8_t[]> scratch_;    // headers of segments
  std::unique_ptr<uint8_t[]> assembled_;  // a packet in one piece, followed by a fragment
};

}  // namespace weft
