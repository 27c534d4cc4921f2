// A Datapath with a thread that feeds it from TAPs and the underlay.
//
//   TAPs, underlay ──epoll, a burst per port and round──► Datapath ──► TAPs, underlay
//                                                          │ upcalls, mirrored frames, lost ports
//   controlling thread ── Turn ── every public method ◄── wake()
//
// The thread sleeps in epoll_wait while nothing arrives, or polls for the next frame for a moment
// where that pays off (io/wait.h). A timer wakes it when frames that wait for their port's rate may go
// on, or when floods wait that the controlling thread has decided (flood.h). It runs each burst to completion in
// a turn of its own (turn.h). The controlling thread uses the Datapath directly in its own turns, so every answer
// is exact and an idle worker need not be woken; only to flood it is.
// Opening and closing ports can take long, so the caller does that outside a turn (workers.h).
//
// In each turn, the Datapath uses connections that it finds, and between two frames it holds none
// (connection_table.h).
//
// In manual mode there is no thread: the controlling thread feeds memory ports itself, and the clock
// shows what it was last set to.
//
// Only the controlling thread calls public methods, and there is only one. `wake` is called in a turn
// of either thread, and must neither block nor call back.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "datapath.h"
#include "io/tap.h"
#include "io/timer.h"
#include "io/wait.h"
#include "turn.h"

namespace weft {

// How many frames a queue may hold that was open before: more than the kernel keeps for a TAP. And how long they may wait
// for decisions, whatever becomes of these.
inline constexpr uint32_t kBacklog = 4096;
inline constexpr double kBacklogMs = 5000;

class Worker {
 public:
  enum class Mode { manual, threaded };

  // `index` distinguishes its tokens from those of other workers. `wake` is called when something waits
  // and nothing did before. Not used in manual mode.
  Worker(Mode mode, uint32_t index, size_t flow_cap, ConnectionTable* connections, uint64_t seed, MemoryHooks hooks, std::function<void()> wake);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();

  void set_prober(Prober* prober) { datapath_.set_prober(prober); }

  // 0 or -errno. Does nothing in manual mode.
  int start();
  // Stops the thread. Ports, counters and flows can still be read, and ports can still be taken. `wake`
  // is no longer called.
  void close();

  bool manual() const { return mode_ == Mode::manual; }
  // Sets the time to `ms`. From there, time runs in threaded mode and stands still in manual mode until
  // the next call.
  void set_clock(double ms);

  // 0 or -errno: -EEXIST and -EALREADY as in Datapath::add_port, -EBADF if it does not run. Takes over
  // the fd of a TAP only if it returns 0.
  int add(std::unique_ptr<Port> port);
  // From `hold` to `begin`, ports receive nothing: what arrives waits in the kernel.
  void hold() { held_ = true; }
  void begin();
  // Hands a port back to be closed, which also removes it from epoll; null if there is none.
  std::unique_ptr<Port> take(uint16_t number);

  // Runs `work(datapath)` in a turn. In manual mode there is one thread, and there are no turns.
  template <typename Work>
  auto with(Work work) {
    if (manual()) return work(datapath_);
    std::lock_guard guard(turn_);
    enter();
    const LeaveAtEnd leave_at_end = {this};
    datapath_.set_now(now_ms());
    datapath_.release();
    return work(datapath_);
  }

  // Moves out what waits: up to `max` upcalls, and all mirrored frames and lost ports. After fewer than
  // `max` upcalls, `wake` announces the next; otherwise call again.
  struct LostPort {
    uint16_t port;
    int error;  // errno
  };
  struct Waiting {
    size_t upcalls = 0;
    Mirrored mirrored;
    std::vector<LostPort> lost;
  };
  Waiting take_waiting(UpcallRecord* to, size_t max);

 private:
  static void* run_thread(void* self);
  void loop();
  void serve(uint64_t tag, uint32_t events);
  void release();
  void run_burst(uint64_t tag, bool tunnel);
  // In a turn: lets the controlling thread have its turn if it waits. True if it did.
  bool pass_turn();
  // In a turn: sends floods that wait, for some milliseconds; the controlling thread gets its turn in between.
  void flood();
  Port* find(uint64_t tag);
  int watch(Port& port);
  void lose(Port* port, int error);
  void notify();
  // In a turn: begins to use connections, or stops using them.
  void enter();
  void leave();
  // In a turn: how many frames of the port may be received now.
  size_t readable(const Port& port) const;
  // In a turn: receives a burst of the port. 0 or -errno.
  int receive(Port* port, size_t most);
  // In a turn: sets the timer to when frames that wait may go on.
  void arm();
  double now_ms() const;

  struct LeaveAtEnd {
    Worker* worker;
    ~LeaveAtEnd() {
      if (!worker->running_) worker->datapath_.flood(SIZE_MAX);  // nobody else will
      worker->leave();
      worker->notify();
      worker->arm();
    }
  };

  const Mode mode_;
  const uint32_t index_;
  ConnectionTable* const connections_;
  const std::function<void()> wake_;
  pthread_t thread_{};
  bool running_ = false;
  int epoll_ = -1;
  int stop_ = -1;   // eventfd
  bool held_ = false;  // used only by the controlling thread

  Turn turn_;
  // In a turn:
  Datapath datapath_;
  double clock_offset_ms_ = 0;
  bool notified_ = false;  // and not everything has been taken since
  bool closed_ = false;
  bool is_flooding_ = false;  // the thread is, and has yielded its turn for a moment
  Timer timer_;  // runs out when frames that wait may go on
  std::vector<LostPort> lost_;

  // Used only by the thread:
  Wait wait_;
  size_t deferred_ = 0;     // ports of this round that were not read because of their backlog, or of their floods
  size_t round_bytes_ = 0;  // bytes received since the last wait, or more if some frames went on from a queue
  Burst burst_;
};

}  // namespace weft
