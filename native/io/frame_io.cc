#include "frame_io.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "privileges.h"

namespace weft {
namespace {

constexpr uint64_t kStopEvent = UINT64_MAX;  // not a port number
constexpr int kEventsAtOnce = 64;

}  // namespace

FrameIo::~FrameIo() { close(); }

int FrameIo::start(std::function<void()> wake) {
  if (running_) return -EALREADY;
  wake_ = std::move(wake);
  int error = 0;
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || stop_ < 0) error = -errno;
  if (!error) {
    epoll_event event = {EPOLLIN, {.u64 = kStopEvent}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, stop_, &event) < 0) error = -errno;
  }
  if (!error) error = -pthread_create(&reader_, nullptr, run_reader, this);
  running_ = error == 0;
  if (error) close();
  return error;
}

void FrameIo::stop() {
  if (!running_) return;
  const uint64_t one = 1;
  while (write(stop_, &one, sizeof one) < 0 && errno == EINTR) {
  }
  pthread_join(reader_, nullptr);
  running_ = false;
}

void FrameIo::close() {
  stop();
  for (auto& [number, port] : ports_) port.shut();
  ports_.clear();
  queue_.clear();
  lost_.clear();
  if (stop_ >= 0) ::close(stop_);
  if (epoll_ >= 0) ::close(epoll_);
  stop_ = epoll_ = -1;
}

int FrameIo::add_tap(uint16_t number, const TapTarget& target, const std::vector<SpareTap>& spares, TapOpened* opened) {
  if (ports_.contains(number)) return -EALREADY;
  if (int error = tap_open(target, 1, opened, &spares)) return error;
  Port port;
  port.fd = opened->fds[0];
  port.offloads = opened->offloads;
  const int error = insert(number, std::move(port));
  if (error && opened->created) {
    tap_remove(opened->fds[0]);
  } else if (error) {
    ::close(opened->fds[0]);
  }
  return error;
}

int FrameIo::open_underlay(uint16_t number, const uint8_t local[16], uint16_t l4_port, int spare) {
  if (ports_.contains(number)) return -EALREADY;
  Port port;
  port.underlay = std::make_unique<Underlay>();
  if (int error = port.underlay->open(local, l4_port, false, spare)) return error;
  return insert(number, std::move(port));
}

int FrameIo::descriptor(uint16_t number) const {
  const auto at = ports_.find(number);
  return at == ports_.end() ? -1 : at->second.poll_fd();
}

int FrameIo::insert(uint16_t number, Port port) {
  if (!running_) return -EBADF;
  epoll_event event = {EPOLLIN, {.u64 = number}};
  const int fd = port.poll_fd();
  std::lock_guard lock(mutex_);
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) return -errno;
  ports_.emplace(number, std::move(port));
  return 0;
}

int FrameIo::renew_tap(uint16_t number) {
  const auto at = ports_.find(number);
  return at == ports_.end() || at->second.underlay ? -ENOENT : tap_renew(at->second.fd);
}

int FrameIo::find_tap(uint16_t number, TapPlace* place) {
  const auto at = ports_.find(number);
  return at == ports_.end() || at->second.underlay ? -ENOENT : tap_place(at->second.fd, place);
}

int FrameIo::remove(uint16_t number, bool keep) {
  std::lock_guard lock(mutex_);
  auto at = ports_.find(number);
  if (at == ports_.end()) return -ENOENT;
  Port& port = at->second;
  int error = 0;
  if (port.underlay || keep) {
    port.shut();
  } else {
    error = tap_remove(std::exchange(port.fd, -1));
  }
  ports_.erase(at);
  std::erase_if(queue_, [number](const ReceivedFrame& frame) { return frame.port == number; });
  std::erase_if(lost_, [number](const LostPort& lost) { return lost.port == number; });
  return error;
}

void FrameIo::Port::shut() {
  if (underlay) underlay->close();
  if (fd >= 0) ::close(fd);
  fd = -1;
}

std::vector<ReceivedFrame> FrameIo::take(size_t max) {
  std::vector<ReceivedFrame> taken;
  std::lock_guard lock(mutex_);
  while (taken.size() < max && !queue_.empty()) {
    ReceivedFrame& frame = queue_.front();
    Port& port = ports_.find(frame.port)->second;  // `remove` discards the frames of its port
    --port.queued_frames;
    port.queued_bytes -= frame.length;
    if (port.paused && port.queued_frames <= kPortFrames / 2 && port.queued_bytes <= kPortBytes / 2) {
      port.paused = false;
      if (!port.lost) set_interest(frame.port, port);
    }
    taken.push_back(std::move(frame));
    queue_.pop_front();
  }
  return taken;
}

std::vector<LostPort> FrameIo::take_lost() {
  std::lock_guard lock(mutex_);
  return std::exchange(lost_, {});
}

Reason FrameIo::send(uint16_t number, const Frame& frame) {
  const auto at = ports_.find(number);
  if (at == ports_.end() || at->second.underlay) return Reason::port_gone;
  return tap_send(at->second.fd, frame);
}

Refused FrameIo::send_underlay(const uint8_t remote[16], uint32_t entropy, uint8_t tos, iovec payload,
                               uint32_t datagram_bytes) {
  const size_t each = datagram_bytes ? datagram_bytes : std::max<size_t>(payload.iov_len, 1);
  std::vector<iovec> parts;
  for (size_t at = 0; at < payload.iov_len; at += each) {
    parts.push_back({static_cast<uint8_t*>(payload.iov_base) + at, std::min(each, payload.iov_len - at)});
  }
  Refused refused = {static_cast<uint32_t>(parts.size()), Reason::underlay_missing};
  for (auto& [number, port] : ports_) {
    if (!port.underlay) continue;
    refused = {};
    for (size_t at = 0; at < parts.size(); at += kSendBatch) {
      const size_t some = std::min(parts.size() - at, kSendBatch);
      const Refused here = port.underlay->send(remote, entropy, tos, parts.data() + at, 1, some);
      if (here.datagrams) refused = {refused.datagrams + here.datagrams, here.reason};
    }
    break;
  }
  return refused;
}

double FrameIo::read_until_ms(double now_ms) {
  std::lock_guard lock(mutex_);
  double until = now_ms;
  for (auto& [number, port] : ports_) {
    if (port.underlay && !port.lost) until = std::min(until, port.underlay->read_until_ms(now_ms));
  }
  return until;
}

uint8_t FrameIo::offloads(uint16_t number) const {
  const auto at = ports_.find(number);
  return at == ports_.end() ? 0 : at->second.offloads;
}

// The reader, from here on.

void* FrameIo::run_reader(void* self) {
  drop_capabilities();  // everything that it uses is open already
  static_cast<FrameIo*>(self)->read_loop();
  return nullptr;
}

void FrameIo::read_loop() {
  epoll_event events[kEventsAtOnce];
  for (;;) {
    // Level-triggered: one burst of a port for each round, so that ports take turns.
    const int ready = epoll_wait(epoll_, events, kEventsAtOnce, -1);
    for (int i = 0; i < ready; ++i) {
      if (events[i].data.u64 == kStopEvent) return;
      if (read_port(static_cast<uint16_t>(events[i].data.u64), events[i].events)) wake_();
    }
  }
}

// Reads one burst of a port into the queue. True if the owner must be woken.
bool FrameIo::read_port(uint16_t number, uint32_t events) {
  std::lock_guard lock(mutex_);
  const auto at = ports_.find(number);
  if (at == ports_.end()) return false;  // removed since epoll_wait returned
  Port& port = at->second;
  // A paused port is read only to learn the error that epoll reports.
  if (port.lost || (port.paused && !(events & (EPOLLERR | EPOLLHUP)))) return false;

  const int error = port.underlay ? port.underlay->receive(&burst_) : tap_receive(port.fd, &burst_);
  if (error) {
    port.lost = true;
    epoll_ctl(epoll_, EPOLL_CTL_DEL, port.poll_fd(), nullptr);
    lost_.push_back({number, -error});
    return lost_.size() == 1;
  }
  const bool was_empty = queue_.empty();
  for (size_t i = 0; i < burst_.frames.size(); ++i) {
    const Frame& frame = burst_.frames[i];
    ReceivedFrame copy = {number, port.underlay != nullptr, {}, frame.vnet,
                          std::make_unique_for_overwrite<uint8_t[]>(frame.length), frame.length};
    if (port.underlay) copy.source = burst_.sources[i];
    memcpy(copy.bytes.get(), frame.data, frame.length);
    port.queued_bytes += frame.length;
    queue_.push_back(std::move(copy));
  }
  port.queued_frames += burst_.frames.size();
  if (port.underlay) port.underlay->handled();
  if (!port.paused && (port.queued_frames >= kPortFrames || port.queued_bytes >= kPortBytes)) {
    port.paused = true;
    set_interest(number, port);
  }
  return was_empty && !queue_.empty();
}

void FrameIo::set_interest(uint16_t number, const Port& port) {
  epoll_event event = {port.paused ? 0u : static_cast<uint32_t>(EPOLLIN), {.u64 = number}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, port.poll_fd(), &event);
}

}  // namespace weft
