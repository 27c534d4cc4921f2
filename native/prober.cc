#include "prober.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "io/privileges.h"

namespace weft {

Prober::Prober(bool threaded, Transmit transmit, std::function<void()> wake)
    : threaded_(threaded), transmit_(std::move(transmit)), wake_(std::move(wake)) {}

int Prober::start() {
  if (!threaded_) return 0;
  stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int error = stop_ < 0 ? -errno : timer_.open();
  if (!error) error = -pthread_create(&thread_, nullptr, run_thread, this);
  running_ = error == 0;
  if (running_) pthread_setname_np(thread_, "weft-liveness");
  if (error) close();
  return error;
}

void Prober::close() {
  if (std::exchange(running_, false)) {
    const uint64_t one = 1;
    while (write(stop_, &one, sizeof one) < 0 && errno == EINTR) {
    }
    pthread_join(thread_, nullptr);
  }
  std::lock_guard guard(mutex_);
  notified_ = true;  // nobody is to be woken any more
  if (stop_ >= 0) ::close(stop_);
  timer_.close();
  stop_ = -1;
}

void Prober::set_clock(double ms) {
  std::lock_guard guard(mutex_);
  manual_now_ms_ = ms;
  clock_offset_ms_ = ms - monotonic_ms();
}

double Prober::now_ms() const { return threaded_ ? monotonic_ms() + clock_offset_ms_ : manual_now_ms_; }

// The controlling thread

void Prober::configure(const LivenessSettings& settings) {
  std::lock_guard guard(mutex_);
  liveness_.configure(settings, now_ms());
  notify();
  arm();
}

void Prober::open_tunnel(uint16_t port, const uint8_t local[16], std::vector<Underlay*> underlays) {
  std::lock_guard guard(mutex_);
  underlays_ = std::move(underlays);
  counts_.port = port;
  counts_.port_frames = counts_.port_bytes = 0;
  liveness_.open(local, now_ms());
  notify();
  arm();
}

void Prober::close_tunnel(uint16_t port) {
  std::lock_guard guard(mutex_);
  if (counts_.port != port) return;
  underlays_.clear();
  counts_.port = 0;
  liveness_.open(nullptr, now_ms());
  notify();
  arm();
}

double Prober::run() {
  std::lock_guard guard(mutex_);
  work();
  return liveness_.due_ms();
}

bool Prober::take_changed() {
  std::lock_guard guard(mutex_);
  notified_ = false;
  return liveness_.take_changed();
}

std::vector<PeerReport> Prober::peers() {
  std::lock_guard guard(mutex_);
  return liveness_.peers(now_ms());
}

std::vector<Stranger> Prober::strangers() {
  std::lock_guard guard(mutex_);
  return liveness_.strangers();
}

Prober::Counts Prober::counts() {
  std::lock_guard guard(mutex_);
  return counts_;
}

// A worker

Reason Prober::receive(const uint8_t source[16], const uint8_t* frame, uint32_t length) {
  std::lock_guard guard(mutex_);
  const Reason refused = liveness_.receive(source, frame, length, now_ms());
  notify();
  arm();
  return refused;
}

// The thread

void* Prober::run_thread(void* self) {
  run_in_real_time();
  drop_capabilities();  // everything that it uses is open
  static_cast<Prober*>(self)->loop();
  return nullptr;
}

void Prober::loop() {
  pollfd fds[] = {{stop_, POLLIN, 0}, {timer_.fd(), POLLIN, 0}};
  for (;;) {
    if (poll(fds, 2, -1) < 0) continue;  // interrupted
    if (fds[0].revents) return;
    std::lock_guard guard(mutex_);
    timer_.take();
    work();
    notify();
    arm();
  }
}

void Prober::work() {
  liveness_.run(
      now_ms(),
      [this](const uint8_t to[16], uint32_t entropy, const uint8_t* frame, uint32_t length) { send(to, entropy, frame, length); },
      [this](double now_ms) { return read_until_ms(now_ms); });
}

void Prober::send(const uint8_t to[16], uint32_t entropy, const uint8_t* frame, uint32_t length) {
  uint8_t header[kVxlanBytes];
  vxlan_header(header, kProbeVni);
  const iovec payload[2] = {{header, sizeof header}, {const_cast<uint8_t*>(frame), length}};
  ++counts_.originated;
  if (!underlays_.empty()) {
    const Refused refused = underlays_[0]->send(to, entropy, 0, payload, 2, 1);
    if (refused.datagrams) {
      ++counts_.drops[static_cast<size_t>(refused.reason)];
      return;
    }
  } else {
    transmit_(counts_.port, to, entropy, payload);
  }
  ++counts_.tx;
  ++counts_.port_frames;
  counts_.port_bytes += length;
}

double Prober::read_until_ms(double now_ms) {
  double until = now_ms;
  for (Underlay* underlay : underlays_) until = std::min(until, underlay->read_until_ms(now_ms));
  return until;
}

void Prober::arm() { timer_.set(liveness_.due_ms(), clock_offset_ms_); }

// Wakes the controlling thread, only once until it has taken the news.
void Prober::notify() {
  if (!threaded_ || notified_ || !liveness_.has_changed()) return;
  notified_ = true;
  wake_();
}

}  // namespace weft
