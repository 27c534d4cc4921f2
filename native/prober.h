// Liveness at work: probes go out and peers are judged (liveness.h) in time, however much the datapath has to
// carry, since a thread of its own does it, which sleeps most of the time.
//
//   timer ──► prober thread: run ──► send ──► sockets of the tunnel
//                  ▲ lock
//   workers: each probe that came in by the tunnel ──► receive
//
// It has a real-time priority if the system allows that, so that other programs that keep all processors busy do not
// delay it. Peers would take that for a sign of death.
//
// The thread sends with the sockets of the first worker, each probe from another one of the pool, so that
// probes take all the ways that flows take. Workers count what came in, this counts what went out.
//
// Everything is under one lock, held for microseconds. Workers call `receive`, the controlling thread the rest. In
// manual mode there is no thread, and `run` does its work.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "counters.h"
#include "io/timer.h"
#include "io/underlay.h"
#include "liveness.h"
#include "priority_mutex.h"

namespace weft {

class Prober {
 public:
  // Where probes go in manual mode, in one piece.
  using Transmit = std::function<void(uint16_t port, const uint8_t to[16], uint32_t hash, const iovec payload[2])>;

  // `wake` is called by either thread when the state of a peer has changed, once until `take_changed`. It
  // must neither block nor call back.
  Prober(bool threaded, Transmit transmit, std::function<void()> wake);
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;
  ~Prober() { close(); }

  // 0 or -errno. Does nothing in manual mode.
  int start();
  void close();
  // As Worker::set_clock.
  void set_clock(double ms);

  void configure(const LivenessSettings& settings);
  // The tunnel is open as this port; `underlays` are those of all workers, empty in manual mode. They must stay
  // until `close_tunnel`.
  void open_tunnel(uint16_t port, const uint8_t local[16], std::vector<Underlay*> underlays);
  void close_tunnel(uint16_t port);

  // From a worker: Liveness::receive.
  Reason receive(const uint8_t source[16], const uint8_t* frame, uint32_t length);

  // Manual mode: does what is due. Returns when to call it again; Liveness::kNever if there is nothing to do.
  double run();

  bool take_changed();
  std::vector<PeerReport> peers();
  std::vector<Stranger> strangers();

  // What it sent, or could not send: originated = tx + drops. `port` says where the frames went out.
  struct Counts {
    uint16_t port = 0;
    uint64_t port_frames = 0, port_bytes = 0;
    uint64_t originated = 0, tx = 0;
    uint64_t drops[kReasons] = {};
  };
  Counts counts();

 private:
  static void* run_thread(void* self);
  void loop();
  // Under the lock:
  void work();
  void send(const uint8_t to[16], uint32_t entropy, const uint8_t* frame, uint32_t length);
  double read_until_ms(double now_ms);
  void arm();
  void notify();
  double now_ms() const;

  const bool threaded_;
  const Transmit transmit_;
  const std::function<void()> wake_;
  pthread_t thread_{};
  bool running_ = false;
  int stop_ = -1;   // eventfd

  PriorityMutex mutex_;
  Liveness liveness_;
  std::vector<Underlay*> underlays_;
  Counts counts_;
  double clock_offset_ms_ = 0;
  double manual_now_ms_ = 0;
  Timer timer_;
  bool notified_ = false;
};

}  // namespace weft
