/**
 * The load of the benchmark for what iperf3 cannot do: small datagrams at high rates,
 * requests with responses, and new connections.
 *
 *   load send        UDP datagrams, paced or at full speed, of one flow or of many
 *   load sink        receives them: how many, how fast, and in which order
 *   load rr-server   answers one byte with one byte over TCP
 *   load rr-client   sends requests, one at a time
 *   load crr-server  the same for any number of connections at once
 *   load crr-client  a new connection for each request, several at once (connections.h)
 *
 * The sender does what applications do: it has ordinary sockets, connected if a socket has one
 * destination, and gives the kernel several datagrams in a call. It neither builds frames nor
 * asks for segmentation.
 *
 * The sink sleeps for half a millisecond and then takes everything that has arrived. If it
 * slept until a datagram came, each one would wake it, and the measurement would be one of
 * wake-ups.
 *
 * A datagram contains its flow, its number within the flow and the phase in which it was sent.
 * Datagrams of the warm-up are received and checked, but not counted: when counting begins,
 * everything that learns, resolves or decides has seen every flow.
 *
 * Each program prints one line of JSON on standard output and exits with 0, or says on standard
 * error what failed and exits with 1. Servers print `ready` first, and end when their standard
 * input does.
 */
#include <netinet/tcp.h>

#include "connections.h"
#include "program.h"

namespace {

constexpr uint32_t kMagic = 0x77656674;
/** Datagrams that a sender hands over in one call, to one socket. */
constexpr int kBurst = 16;
/** Datagrams that the sink receives in one call. */
constexpr int kBatch = 256;
constexpr size_t kMaxPayload = 9000;
constexpr int kMaxFlows = 1 << 16;
/** Receive buffer of the sink's socket: it holds a tenth of a second of small frames while others have the CPU. */
constexpr int kReceiveBytes = 16 << 20;
constexpr int64_t kDrainNs = 500'000;
/** A paced sender wakes up this often, and then sends at most two bursts. */
constexpr int64_t kPaceNs = 100'000;

/**
 * The start of every datagram; its 16 bytes fit into the 18 of a 60-byte frame. In host byte order, since it stays on
 * the machine.
 */
struct Mark {
  uint32_t magic;
  uint32_t flow;
  uint32_t number;
  uint32_t counted;
};
static_assert(sizeof(Mark) == 16);

// send

/**
 * Flow f is sent from socket f / ports to port f % ports. With one port the sockets are
 * connected; with several ports each datagram has its own address.
 */
class Sender {
 public:
  Sender(const std::string& to, int port, int sockets, int ports, std::vector<size_t> sizes)
      : sizes_(std::move(sizes)), numbers_(static_cast<size_t>(sockets) * ports), next_(sockets, 0), ports_(ports) {
    for (const size_t size : sizes_)
      if (size < sizeof(Mark) || size > kMaxPayload) usage("a size is out of range");
    if (sizes_.empty() || numbers_.empty() || numbers_.size() > kMaxFlows) usage("too few or too many sizes or flows");
    for (int i = 0; i < ports; i++) to_.push_back(address(to, port + i));
    for (int i = 0; i < sockets; i++) {
      const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      if (fd < 0) fail("socket");
      if (ports == 1 && connect(fd, reinterpret_cast<sockaddr*>(&to_[0]), sizeof to_[0]) < 0) fail("connect");
      sockets_.push_back(fd);
    }
    for (int i = 0; i < kBurst; i++) {
      parts_[i] = {.iov_base = payload_[i], .iov_len = 0};
      messages_[i].msg_hdr.msg_iov = &parts_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  /** Sends `count` datagrams (a burst at most) from the socket whose turn it is. */
  void burst(int count, bool counted) {
    const size_t s = turn_++ % sockets_.size();
    for (int i = 0; i < count; i++) {
      const size_t turn = next_[s]++;
      const size_t flow = s * ports_ + turn % ports_;
      const Mark mark{kMagic, static_cast<uint32_t>(flow), numbers_[flow]++, counted};
      memcpy(payload_[i], &mark, sizeof mark);
      // The flows are at different positions in the sequence of sizes.
      parts_[i].iov_len = sizes_[(turn + s) % sizes_.size()];
      if (ports_ > 1) {
        messages_[i].msg_hdr.msg_name = &to_[turn % ports_];
        messages_[i].msg_hdr.msg_namelen = sizeof to_[0];
      }
    }
    for (int done = 0; done < count;) {
      const int sent = sendmmsg(sockets_[s], messages_ + done, static_cast<unsigned>(count - done), 0);
      if (sent > 0) {
        done += sent;
      } else if (errno == ENOBUFS || errno == ECONNREFUSED) {
        // As far as an application can tell it was sent, and lost; or an earlier one was refused, and this one is sent
        // now.
        if (errno == ENOBUFS) done++;
      } else if (errno != EINTR) {
        fail("sendmmsg");
      }
    }
  }

 private:
  std::vector<size_t> sizes_;
  std::vector<sockaddr_in> to_;
  std::vector<int> sockets_;
  /** The number of the next datagram of each flow. */
  std::vector<uint32_t> numbers_;
  /** Datagrams that each socket has sent. */
  std::vector<size_t> next_;
  size_t ports_;
  size_t turn_ = 0;
  iovec parts_[kBurst];
  mmsghdr messages_[kBurst] = {};
  uint8_t payload_[kBurst][kMaxPayload] = {};
};

int send(const Options& options) {
  static Sender sender(options.text("to"), static_cast<int>(options.number("port")),
                       static_cast<int>(options.number("sockets")), static_cast<int>(options.number("ports")),
                       options.numbers("sizes"));
  const double perSecond = options.number("rate");
  const int64_t warmupNs = static_cast<int64_t>(options.number("warmup") * 1e9);
  const int64_t runNs = static_cast<int64_t>(options.number("seconds") * 1e9);

  /** Sends until the time has passed, and returns the number sent. A rate of 0 means full speed. */
  const auto run = [&](int64_t durationNs, bool counted) {
    const int64_t startedAt = now();
    int64_t sent = 0;
    for (int64_t elapsed = 0; elapsed < durationNs; elapsed = now() - startedAt) {
      if (perSecond == 0) {
        sender.burst(kBurst, counted);
        sent += kBurst;
        continue;
      }
      int64_t due = static_cast<int64_t>(static_cast<double>(elapsed) * perSecond / 1e9) - sent;
      due = std::min<int64_t>(due, 2 * kBurst);
      for (int64_t left = due; left > 0; left -= kBurst)
        sender.burst(static_cast<int>(std::min<int64_t>(left, kBurst)), counted);
      sent += std::max<int64_t>(due, 0);
      sleepFor(kPaceNs - (now() - startedAt) % kPaceNs);
    }
    return sent;
  };
  run(warmupNs, false);
  const int64_t startedAt = now();
  const int64_t sent = run(runNs, true);
  printf("{\"sent\": %lld, \"seconds\": %.6f}\n", static_cast<long long>(sent),
         static_cast<double>(now() - startedAt) / 1e9);
  return 0;
}

// sink

class Sink {
 public:
  Sink(int port, int ports) : next_(kMaxFlows, 0) {
    for (int i = 0; i < ports; i++) {
      const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      if (fd < 0) fail("socket");
      if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBytes, sizeof kReceiveBytes) < 0) fail("SO_RCVBUFFORCE");
      const sockaddr_in any = address("0.0.0.0", port + i);
      if (bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) < 0) fail("bind");
      sockets_.push_back(fd);
    }
    for (int i = 0; i < kBatch; i++) {
      parts_[i] = {.iov_base = payload_[i], .iov_len = kMaxPayload};
      messages_[i].msg_hdr.msg_iov = &parts_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  /** Receives everything that waits; returns how much that was. */
  int64_t drain() {
    int64_t taken = 0;
    for (const int fd : sockets_) {
      for (;;) {
        const int count = recvmmsg(fd, messages_, kBatch, 0, nullptr);
        if (count < 0) {
          if (errno == EAGAIN || errno == EINTR) break;
          fail("recvmmsg");
        }
        const int64_t at = now();
        for (int i = 0; i < count; i++) take(payload_[i], messages_[i].msg_len, at);
        taken += count;
        if (count < kBatch) break;
      }
    }
    return taken;
  }

  void print() const {
    printf(
        "{\"received\": %lld, \"bytes\": %lld, \"seconds\": %.6f, \"warmup\": %lld, \"flows\": %lld, "
        "\"reordered\": %lld, \"foreign\": %lld}\n",
        static_cast<long long>(received_), static_cast<long long>(bytes_),
        static_cast<double>(lastAt_ - firstAt_) / 1e9, static_cast<long long>(warmup_),
        static_cast<long long>(flows_), static_cast<long long>(reordered_), static_cast<long long>(foreign_));
  }

 private:
  void take(const uint8_t* payload, size_t lengthBytes, int64_t at) {
    Mark mark;
    if (lengthBytes < sizeof mark) {
      foreign_++;
      return;
    }
    memcpy(&mark, payload, sizeof mark);
    if (mark.magic != kMagic || mark.flow >= kMaxFlows) {
      foreign_++;
      return;
    }
    // It comes after a later one, or for the second time.
    uint32_t& next = next_[mark.flow];
    if (next == 0) flows_++;
    if (mark.number + 1 <= next) reordered_++;
    next = std::max(next, mark.number + 1);
    if (mark.counted == 0) {
      warmup_++;
      return;
    }
    if (received_++ == 0) firstAt_ = at;
    lastAt_ = at;
    bytes_ += static_cast<int64_t>(lengthBytes);
  }

  std::vector<int> sockets_;
  /** One more than the highest number of each flow; 0 before its first. */
  std::vector<uint32_t> next_;
  int64_t received_ = 0, bytes_ = 0, warmup_ = 0, flows_ = 0, reordered_ = 0, foreign_ = 0;
  int64_t firstAt_ = 0, lastAt_ = 0;
  iovec parts_[kBatch];
  mmsghdr messages_[kBatch] = {};
  uint8_t payload_[kBatch][kMaxPayload];
};

int sink(const Options& options) {
  static Sink sink(static_cast<int>(options.number("port")), static_cast<int>(options.number("ports")));
  puts("ready");
  fflush(stdout);
  while (!inputEnded()) {
    sleepFor(kDrainNs);
    sink.drain();
  }
  // Waits for datagrams still under way: until nothing has come for a tenth of a second.
  for (int64_t quietSince = now(); now() - quietSince < 100'000'000;) {
    if (sink.drain() > 0) quietSince = now();
    sleepFor(kDrainNs);
  }
  sink.print();
  return 0;
}

// rr-server, rr-client

void withoutDelay(int fd) {
  const int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) fail("TCP_NODELAY");
}

/** Serves one client, until it closes the connection. */
int rrServer(const Options& options) {
  const int listener = listening(static_cast<int>(options.number("port")), 1);
  puts("ready");
  fflush(stdout);
  const int fd = accept(listener, nullptr, nullptr);
  if (fd < 0) fail("accept");
  withoutDelay(fd);
  char byte;
  while (read(fd, &byte, 1) == 1)
    if (write(fd, &byte, 1) != 1) fail("write");
  return 0;
}

int rrClient(const Options& options) {
  const sockaddr_in to = address(options.text("to"), static_cast<int>(options.number("port")));
  const int64_t warmupNs = static_cast<int64_t>(options.number("warmup") * 1e9);
  const int64_t runNs = static_cast<int64_t>(options.number("seconds") * 1e9);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) fail("connect");
  withoutDelay(fd);

  std::vector<int64_t> tookNs;
  tookNs.reserve(1 << 20);
  const auto run = [&](int64_t durationNs) {
    tookNs.clear();
    const int64_t startedAt = now();
    for (int64_t askedAt = startedAt; askedAt - startedAt < durationNs;) {
      char byte = 'q';
      if (write(fd, &byte, 1) != 1) fail("write");
      if (read(fd, &byte, 1) != 1) fail("read");
      const int64_t answeredAt = now();
      tookNs.push_back(answeredAt - askedAt);
      askedAt = answeredAt;
    }
    return static_cast<double>(now() - startedAt) / 1e9;
  };
  run(warmupNs);
  const double seconds = run(runNs);
  std::sort(tookNs.begin(), tookNs.end());
  printf("{\"transactions\": %zu, \"seconds\": %.6f, \"p50Us\": %.1f, \"p99Us\": %.1f}\n", tookNs.size(), seconds,
         quantileUs(tookNs, 0.5), quantileUs(tookNs, 0.99));
  return 0;
}

}  // namespace

int main(int count, char** words) {
  const std::string_view verb = count > 1 ? words[1] : "";
  const Options options(std::max(count - 2, 0), words + std::min(count, 2));
  if (verb == "send") return send(options);
  if (verb == "sink") return sink(options);
  if (verb == "rr-server") return rrServer(options);
  if (verb == "rr-client") return rrClient(options);
  if (verb == "crr-server") return crrServer(options);
  if (verb == "crr-client") return crrClient(options);
  usage("expected send, sink, rr-server, rr-client, crr-server or crr-client");
}
