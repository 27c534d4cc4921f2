#include "worker.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "io/privileges.h"

namespace weft {
namespace {

constexpr uint64_t kStopTag = UINT64_MAX;  // not that of a port
constexpr uint64_t kTimerTag = UINT64_MAX - 1;
constexpr int kEventsAtOnce = 64;
constexpr timespec kDeferred = {0, 100'000};  // the pause while all that could be read waits for decisions
constexpr double kFloodMs = 2;  // of floods in one round
constexpr size_t kLittleBytes = 2048;  // bytes of frames in a round: a request or a reply, and its acknowledgment

// What epoll returns for a port. The number alone could belong to another port by then.
uint64_t tag_of(const Port& port) { return uint64_t{port.serial} << 16 | port.number; }

int fd_of(const Port& port) { return port.underlay ? port.underlay->fd() : port.tap; }

}  // namespace

Worker::Worker(Mode mode, uint32_t index, size_t flow_cap, ConnectionTable* connections, uint64_t seed, MemoryHooks hooks,
               std::function<void()> wake)
    : mode_(mode),
      index_(index),
      connections_(connections),
      wake_(std::move(wake)),
      datapath_(flow_cap, connections, seed, index, std::move(hooks)) {
  if (!manual()) datapath_.flood_in_parts();
}

Worker::~Worker() { close(); }

int Worker::start() {
  if (manual()) return 0;
  int error = 0;
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || stop_ < 0) error = -errno;
  if (!error) error = timer_.open();
  for (const auto& [fd, tag] : {std::pair{stop_, kStopTag}, std::pair{timer_.fd(), kTimerTag}}) {
    epoll_event event = {EPOLLIN, {.u64 = tag}};
    if (!error && epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) error = -errno;
  }
  if (!error) error = -pthread_create(&thread_, nullptr, run_thread, this);
  running_ = error == 0;
  if (running_) pthread_setname_np(thread_, "weft-datapath");
  if (error) close();
  return error;
}

void Worker::close() {
  if (running_) {
    const uint64_t one = 1;
    while (write(stop_, &one, sizeof one) < 0 && errno == EINTR) {
    }
    pthread_join(thread_, nullptr);
    running_ = false;
    closed_ = true;
    with([](Datapath&) {});  // sends what it has not flooded
  }
  closed_ = true;
  if (stop_ >= 0) ::close(stop_);
  timer_.close();
  if (epoll_ >= 0) ::close(epoll_);
  stop_ = epoll_ = -1;
}

void Worker::set_clock(double ms) {
  if (manual()) return datapath_.set_now(ms);
  std::lock_guard guard(turn_);
  clock_offset_ms_ = ms - monotonic_ms();
}

double Worker::now_ms() const { return monotonic_ms() + clock_offset_ms_; }

// Ports

int Worker::add(std::unique_ptr<Port> owned) {
  if (manual()) return datapath_.add_port(std::move(owned));
  if (!running_) return -EBADF;
  std::lock_guard guard(turn_);
  const uint16_t number = owned->number;
  if (const int error = datapath_.add_port(std::move(owned))) return error;
  const int error = held_ ? 0 : watch(*datapath_.port(number));
  if (error) datapath_.take_port(number);
  return error;
}

// In a turn: begins to receive from the port. 0 or -errno.
int Worker::watch(Port& port) {
  port.backlog_until_ms = now_ms() + kBacklogMs;
  epoll_event event = {EPOLLIN, {.u64 = tag_of(port)}};
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_of(port), &event) == 0 ? 0 : -errno;
}

void Worker::begin() {
  if (!running_) return;
  with([&](Datapath& datapath) {
    if (!std::exchange(held_, false)) return;
    for (uint16_t number : datapath.port_numbers()) {
      Port* port = datapath.port(number);
      if (const int error = watch(*port)) lose(port, -error);
    }
  });
}

std::unique_ptr<Port> Worker::take(uint16_t number) {
  return with([&](Datapath& datapath) {
    std::erase_if(lost_, [&](const LostPort& lost) { return lost.port == number; });
    return datapath.take_port(number);
  });
}

Worker::Waiting Worker::take_waiting(UpcallRecord* to, size_t max) {
  return with([&](Datapath& datapath) {
    Waiting waiting;
    waiting.upcalls = datapath.take_upcalls(to, max);
    waiting.mirrored = datapath.mirror().take();
    waiting.lost = std::exchange(lost_, {});
    notified_ = waiting.upcalls == max;
    return waiting;
  });
}

// In a turn: wakes the controlling thread, only once until it has taken everything.
void Worker::notify() {
  const bool waits = datapath_.upcalls_wait() || !datapath_.mirror().empty() || !lost_.empty();
  if (!waits || notified_ || closed_) return;
  notified_ = true;
  wake_();
}

void Worker::enter() {
  if (connections_) connections_->enter(index_);
}

void Worker::leave() {
  if (connections_) connections_->leave(index_);
}

void Worker::arm() {
  const bool floods_wait = datapath_.floods_wait() && !is_flooding_;
  timer_.set(floods_wait ? 0 : datapath_.release_due_ms(), clock_offset_ms_);
}

// The thread's own code from here on.

void* Worker::run_thread(void* self) {
  drop_capabilities();  // everything that it uses is open
  static_cast<Worker*>(self)->loop();
  return nullptr;
}

void Worker::loop() {
  epoll_event events[kEventsAtOnce];
  wait_.start();
  for (;;) {
    // Level-triggered: one burst for each port and round, so that ports take turns.
    const int ready = wait_(epoll_, events, kEventsAtOnce, round_bytes_ <= kLittleBytes);
    round_bytes_ = 0;
    deferred_ = 0;
    for (int i = 0; i < ready; ++i) {
      if (events[i].data.u64 == kStopTag) return;
      if (events[i].data.u64 == kTimerTag) {
        release();
      } else {
        serve(events[i].data.u64, events[i].events);
      }
    }
    if (deferred_ > 0 && deferred_ == static_cast<size_t>(ready)) nanosleep(&kDeferred, nullptr);
  }
}

// Handles one burst of a port.
void Worker::serve(uint64_t tag, uint32_t events) {
  turn_.begin();
  enter();
  Port* const port = find(tag);
  const size_t most = port ? readable(*port) : 0;
  if (port && most == 0) {
    ++deferred_;
  } else if (port) {
    const bool tunnel = port->is_tunnel();
    int error = receive(port, most);
    if (tunnel && burst_.frames.empty()) port->underlay->handled();
    // An error that reading does not return would be reported again and again.
    if (!error && burst_.frames.empty() && (events & (EPOLLERR | EPOLLHUP))) error = -EIO;
    if (error) {
      lose(port, -error);
    } else if (!burst_.frames.empty()) {
      for (const Frame& frame : burst_.frames) round_bytes_ += frame.length;
      datapath_.set_now(now_ms());
      datapath_.release();
      run_burst(tag, tunnel);
    }
    notify();
    arm();
  }
  leave();
  turn_.end();
}

// Of what may have waited, as many as can be parked behind one undecided flow; a buffer of the underlay has many. Of a TAP whose
// floods wait, as many as may wait with them: the rest waits in the kernel, also what is no flood.
size_t Worker::readable(const Port& port) const {
  if (port.backlog) {
    if (datapath_.undecided(port.number) && now_ms() < port.backlog_until_ms) return 0;
    return port.is_tunnel() ? 1 : kParkedPerFlow;
  }
  if (port.is_tunnel() || !datapath_.floods_wait(port.number)) return Burst::kSlots;
  return std::min(Burst::kSlots, datapath_.flood_room(port.number));
}

int Worker::receive(Port* port, size_t most) {
  const int error = port->is_tunnel() ? port->underlay->receive(&burst_, most) : tap_receive(port->tap, &burst_, most);
  const auto received = static_cast<uint32_t>(burst_.frames.size());
  port->backlog -= received == 0 ? port->backlog : std::min(port->backlog, received);
  return error;
}

// Called when the timer has run out.
void Worker::release() {
  turn_.begin();
  enter();
  timer_.take();
  datapath_.set_now(now_ms());
  datapath_.release();
  flood();
  notify();
  arm();
  leave();
  turn_.end();
  round_bytes_ += kLittleBytes + 1;  // frames that wait for a rate, or are flooded, are not replies that somebody is waiting for
}

void Worker::run_burst(uint64_t tag, bool tunnel) {
  const auto number = static_cast<uint16_t>(tag);
  const std::vector<Frame>& frames = burst_.frames;
  const size_t arrivals = tunnel ? datapath_.receive_datagrams(number, burst_.sources.data(), frames.data(), frames.size())
                                 : datapath_.receive(number, frames.data(), frames.size());
  if (tunnel) datapath_.port(number)->underlay->handled();
  for (size_t i = 0; i < arrivals; ++i) {
    if (pass_turn() && !find(tag)) return;  // the rest came from a port that is gone
    datapath_.forward(number, i);
  }
}

bool Worker::pass_turn() {
  if (!turn_.wanted()) {
    if (connections_) connections_->pass(index_);
    return false;
  }
  leave();
  turn_.yield();
  enter();
  return true;
}

// What is left goes on in the next round, so that all ports have their turns in between.
void Worker::flood() {
  is_flooding_ = true;
  const double end_ms = now_ms() + kFloodMs;
  bool is_left = datapath_.flood(kFloodedAtOnce);
  while (is_left && now_ms() < end_ms) {
    notify();
    pass_turn();
    datapath_.set_now(now_ms());
    is_left = datapath_.flood(kFloodedAtOnce);
  }
  is_flooding_ = false;
}

Port* Worker::find(uint64_t tag) {
  Port* port = datapath_.port(static_cast<uint16_t>(tag));
  return port && tag_of(*port) == tag ? port : nullptr;
}

// The port stays, without receiving anything, until it is removed.
void Worker::lose(Port* port, int error) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd_of(*port), nullptr);
  lost_.push_back({port->number, error});
}

}  // namespace weft
