/**
 * Floods, and what is measured beside them.
 *
 *   flood frames      Ethernet frames from a container, through an AF_PACKET socket
 *   flood tunnel      VXLAN packets with any outer source, from a machine on the underlay
 *   flood new-flows   one datagram from a fresh socket each time, until its echo comes
 *   flood echo        sends datagrams back where they came from
 *
 * `frames` and `tunnel` take `--mode`, one of those below, which says what is random in each
 * frame. `--rate 0` is as fast as the socket accepts them. Random numbers come from `--seed`, so
 * a flood can be repeated.
 *
 * Each prints one line of JSON on standard output and exits with 0, or says on standard error
 * what failed and exits with 1. `echo` prints `ready` and ends when its standard input does.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "../../bench/load/program.h"

namespace {

double clockSeconds() { return static_cast<double>(now()) / 1e9; }

std::array<uint8_t, 6> mac(const Options& options, const char* name) {
  const std::string& text = options.text(name);
  std::array<uint8_t, 6> mac;
  if (sscanf(text.c_str(), "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) != 6) {
    usage("not a MAC address: " + text);
  }
  return mac;
}

template <size_t bytes>
std::array<uint8_t, bytes> ip(const Options& options, const char* name) {
  std::array<uint8_t, bytes> address;
  const std::string& text = options.text(name);
  if (inet_pton(bytes == 4 ? AF_INET : AF_INET6, text.c_str(), address.data()) != 1) usage("not an address: " + text);
  return address;
}

/** xorshift64*. */
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 0x853c49e6748fea9b) {}
  uint32_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545f4914f6cdd1d) >> 32);
  }
  void fill(uint8_t* to, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) to[i] = static_cast<uint8_t>(next() >> 8);
  }

 private:
  uint64_t state_;
};

// Frames

constexpr size_t kMost = 256;
constexpr size_t kLeast = 60;

void put16(uint8_t* to, uint32_t value) {
  to[0] = static_cast<uint8_t>(value >> 8);
  to[1] = static_cast<uint8_t>(value);
}

uint32_t sum16(const uint8_t* bytes, size_t length, uint32_t sum = 0) {
  for (size_t i = 0; i < length; i += 2) sum += static_cast<uint32_t>(bytes[i] << 8) | (i + 1 < length ? bytes[i + 1] : 0u);
  return sum;
}

uint32_t folded(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** A frame that is written from the front. Its sender and its destination are filled in, and may be changed. */
struct Writer {
  uint8_t* at;
  size_t length = 0;

  uint8_t* ethernet(const uint8_t* to, const uint8_t* from, uint32_t type) {
    memset(at, 0, kMost);
    memcpy(at, to, 6);
    memcpy(at + 6, from, 6);
    put16(at + 12, type);
    length = 14;
    return at;
  }
  uint8_t* bytes(size_t count) {
    uint8_t* start = at + length;
    length += count;
    return start;
  }
  /** @return the payload, `bytes` long */
  uint8_t* ip4(const uint8_t* from, const uint8_t* to, uint8_t protocol, size_t payload, uint32_t fragment = 0, uint32_t id = 0, uint8_t tos = 0,
               uint8_t ttl = 64) {
    uint8_t* header = bytes(20);
    header[0] = 0x45;
    header[1] = tos;
    put16(header + 2, static_cast<uint32_t>(20 + payload));
    put16(header + 4, id);
    put16(header + 6, fragment);
    header[8] = ttl;
    header[9] = protocol;
    memcpy(header + 12, from, 4);
    memcpy(header + 16, to, 4);
    put16(header + 10, folded(sum16(header, 20)));
    return bytes(payload);
  }
  uint8_t* ip6(const uint8_t* from, const uint8_t* to, uint8_t protocol, size_t payload, uint8_t hops = 64) {
    uint8_t* header = bytes(40);
    header[0] = 0x60;
    put16(header + 4, static_cast<uint32_t>(payload));
    header[6] = protocol;
    header[7] = hops;
    memcpy(header + 8, from, 16);
    memcpy(header + 24, to, 16);
    return bytes(payload);
  }
};

/** Over IPv4 and without a checksum, which IPv4 allows. */
void udp(uint8_t* to, uint32_t from_port, uint32_t to_port, size_t length) {
  put16(to, from_port);
  put16(to + 2, to_port);
  put16(to + 4, static_cast<uint32_t>(length));
}

/** @param ip the IPv4 header in front of it */
void syn(uint8_t* to, uint32_t from_port, uint32_t to_port, uint32_t sequence, const uint8_t* ip) {
  put16(to, from_port);
  put16(to + 2, to_port);
  put16(to + 4, sequence >> 16);
  put16(to + 6, sequence);
  to[12] = 5 << 4;
  to[13] = 2;
  put16(to + 14, 64'000);
  put16(to + 16, folded(sum16(to, 20, sum16(ip + 12, 8) + 6 + 20)));
}

constexpr uint32_t kIp4 = 0x0800, kIp6 = 0x86dd, kArp = 0x0806;
constexpr uint8_t kTcp = 6, kUdp = 17, kIcmp = 1, kIcmp6 = 58;
constexpr uint32_t kFrom = 5555, kTo = 9999;
/** A UDP datagram with its header. */
constexpr size_t kUdpBytes = 26;
constexpr uint8_t kBroadcast[6] = {255, 255, 255, 255, 255, 255};

/** Floods from a container. */
class Frames {
 public:
  explicit Frames(const Options& options)
      : mode_(options.text("mode")),
        mac_(mac(options, "mac")),
        peer_mac_(mac(options, "peer-mac")),
        gateway_mac_(mac(options, "gateway-mac")),
        ip_(ip<4>(options, "ip")),
        peer_(ip<4>(options, "peer")),
        gateway_(ip<4>(options, "gateway")),
        outside_(ip<4>(options, "outside")),
        vip_(ip<4>(options, "vip")),
        ip6_(ip<16>(options, "ip6")),
        peer6_(ip<16>(options, "peer6")),
        random_(static_cast<uint64_t>(options.number("seed"))) {}

  size_t write(uint8_t* to) {
    Writer frame{to};
    if (mode_ == "benign") {
      bridged(&frame, ip_.data(), peer_.data());
    } else if (mode_ == "spoofed-ip4") {
      // Every second address is close to its own: then the longest common prefix is long.
      auto from = ip_;
      random_.fill(from.data() + (random_.next() & 1 ? 3 : 0), random_.next() & 1 ? 1 : 4);
      random_.fill(from.data() + 3, 1);
      if (from == ip_) from[3] ^= 1;
      bridged(&frame, from.data(), peer_.data());
    } else if (mode_ == "spoofed-ip6") {
      auto from = ip6_;
      const size_t kept = random_.next() % 16;
      random_.fill(from.data() + kept, 16 - kept);
      if (from == ip6_) from[15] ^= 1;
      frame.ethernet(peer_mac_.data(), mac_.data(), kIp6);
      udp(frame.ip6(from.data(), peer6_.data(), kUdp, kUdpBytes), kFrom, kTo, kUdpBytes);
    } else if (mode_ == "spoofed-mac") {
      std::array<uint8_t, 6> from;
      random_.fill(from.data(), 6);
      from[0] = static_cast<uint8_t>((from[0] & ~1) | 2);
      frame.ethernet(peer_mac_.data(), from.data(), kIp4);
      udp(frame.ip4(ip_.data(), peer_.data(), kUdp, kUdpBytes), kFrom, kTo, kUdpBytes);
    } else if (mode_ == "spoofed-arp") {
      auto from = ip_;
      random_.fill(from.data() + random_.next() % 4, 1);
      from[3] ^= 1;
      arp(&frame, 1 + random_.next() % 2, mac_.data(), from.data(), peer_.data());
    } else if (mode_ == "spoofed-nd") {
      auto target = ip6_;
      random_.fill(target.data() + 8, 8);
      frame.ethernet(peer_mac_.data(), mac_.data(), kIp6);
      uint8_t* advertisement = frame.ip6(ip6_.data(), peer6_.data(), kIcmp6, 24, 255);
      advertisement[0] = 136;
      memcpy(advertisement + 8, target.data(), 16);
    } else if (mode_ == "unknown-mac") {
      std::array<uint8_t, 6> peer;
      random_.fill(peer.data(), 6);
      peer[0] = static_cast<uint8_t>((peer[0] & ~1) | 2);
      frame.ethernet(peer.data(), mac_.data(), kIp4);
      udp(frame.ip4(ip_.data(), peer_.data(), kUdp, kUdpBytes), kFrom, kTo, kUdpBytes);
    } else if (mode_ == "scan") {
      // Through the gateway: to hosts of its own network, and of any other.
      std::array<uint8_t, 4> peer = peer_;
      random_.fill(peer.data() + (random_.next() & 1 ? 0 : 3), 1);
      random_.fill(peer.data() + 1, random_.next() & 1 ? 3 : 0);
      frame.ethernet(gateway_mac_.data(), mac_.data(), kIp4);
      udp(frame.ip4(ip_.data(), peer.data(), kUdp, kUdpBytes), random_.next(), random_.next(), kUdpBytes);
    } else if (mode_ == "ports") {
      frame.ethernet(peer_mac_.data(), mac_.data(), kIp4);
      udp(frame.ip4(ip_.data(), peer_.data(), kUdp, kUdpBytes), random_.next(), random_.next(), kUdpBytes);
    } else if (mode_ == "syn") {
      frame.ethernet(gateway_mac_.data(), mac_.data(), kIp4);
      uint8_t* segment = frame.ip4(ip_.data(), outside_.data(), kTcp, 20);
      syn(segment, 1024 + random_.next() % 64'000, 1 + random_.next() % 65'000, random_.next(), frame.at + 14);
    } else if (mode_ == "udp-outside") {
      frame.ethernet(gateway_mac_.data(), mac_.data(), kIp4);
      udp(frame.ip4(ip_.data(), outside_.data(), kUdp, kUdpBytes), 1024 + random_.next() % 64'000, 1 + random_.next() % 65'000, kUdpBytes);
    } else if (mode_ == "vip-ports") {
      // The service has one of them: each other one is refused.
      frame.ethernet(gateway_mac_.data(), mac_.data(), kIp4);
      const uint32_t from = 1024 + random_.next() % 64'000, to_port = 1 + random_.next() % 65'535;
      if (random_.next() & 1) {
        udp(frame.ip4(ip_.data(), vip_.data(), kUdp, kUdpBytes), from, to_port, kUdpBytes);
      } else {
        syn(frame.ip4(ip_.data(), vip_.data(), kTcp, 20), from, to_port, random_.next(), frame.at + 14);
      }
    } else if (mode_ == "vip-syn") {
      frame.ethernet(gateway_mac_.data(), mac_.data(), kIp4);
      syn(frame.ip4(ip_.data(), vip_.data(), kTcp, 20), 1024 + random_.next() % 64'000, 80, random_.next(), frame.at + 14);
    } else if (mode_ == "arp") {
      arp(&frame, 1, mac_.data(), ip_.data(), gateway_.data());
    } else if (mode_ == "ttl") {
      frame.ethernet(gateway_mac_.data(), mac_.data(), kIp4);
      udp(frame.ip4(ip_.data(), outside_.data(), kUdp, kUdpBytes, 0, 0, 0, 1), random_.next(), random_.next(), kUdpBytes);
    } else if (mode_ == "icmp-errors") {
      frame.ethernet(gateway_mac_.data(), mac_.data(), kIp4);
      uint8_t* error = frame.ip4(ip_.data(), outside_.data(), kIcmp, 36);
      error[0] = 3;
      error[1] = 3;
      error[8] = 0x45;
      error[17] = kUdp;
      random_.fill(error + 20, 12);
    } else if (mode_ == "fragments") {
      frame.ethernet(peer_mac_.data(), mac_.data(), kIp4);
      frame.ip4(ip_.data(), peer_.data(), kUdp, 32, 10 + random_.next() % 100, random_.next());
    } else if (mode_ == "ethertypes") {
      frame.ethernet(peer_mac_.data(), mac_.data(), random_.next());
    } else if (mode_ == "headers") {
      headers(&frame);
    } else {
      usage("no such mode of frames: " + mode_);
    }
    return frame.length;
  }

 private:
  void bridged(Writer* frame, const uint8_t* from, const uint8_t* to) {
    frame->ethernet(peer_mac_.data(), mac_.data(), kIp4);
    udp(frame->ip4(from, to, kUdp, kUdpBytes), kFrom, kTo, kUdpBytes);
  }

  void arp(Writer* frame, uint32_t operation, const uint8_t* sender_mac, const uint8_t* sender, const uint8_t* target) {
    frame->ethernet(kBroadcast, mac_.data(), kArp);
    uint8_t* packet = frame->bytes(28);
    put16(packet, 1);
    put16(packet + 2, kIp4);
    packet[4] = 6;
    packet[5] = 4;
    put16(packet + 6, operation);
    memcpy(packet + 8, sender_mac, 6);
    memcpy(packet + 14, sender, 4);
    memcpy(packet + 24, target, 4);
  }

  /** All header fields that a decision may read are random: as many masks and flows as possible. */
  void headers(Writer* frame) {
    const uint32_t choice = random_.next();
    std::array<uint8_t, 6> to = choice & 1 ? gateway_mac_ : peer_mac_;
    if (choice % 5 == 0) random_.fill(to.data(), 6);
    const auto tos = static_cast<uint8_t>(random_.next());
    const auto ttl = static_cast<uint8_t>(random_.next());
    std::array<uint8_t, 4> from = ip_, peer = choice & 2 ? outside_ : peer_;
    if (choice % 7 == 0) random_.fill(from.data(), 4);
    if (choice % 3 == 0) random_.fill(peer.data(), 4);
    const uint8_t protocols[] = {kUdp, kTcp, kIcmp, static_cast<uint8_t>(random_.next())};
    const bool is_ip6 = choice % 4 == 3;
    frame->ethernet(to.data(), mac_.data(), is_ip6 ? kIp6 : choice % 11 == 0 ? random_.next() : kIp4);
    uint8_t* payload;
    if (is_ip6) {
      auto from6 = ip6_, peer6 = peer6_;
      if (choice % 7 == 0) random_.fill(from6.data() + 8, 8);
      if (choice % 3 == 0) random_.fill(peer6.data() + 8, 8);
      payload = frame->ip6(from6.data(), peer6.data(), choice & 16 ? kIcmp6 : kUdp, 32, choice & 32 ? 255 : ttl);
    } else {
      payload = frame->ip4(from.data(), peer.data(), protocols[(choice >> 8) % 4], 32, choice % 13 == 0 ? 0x2000 : 0, random_.next(), tos, ttl);
    }
    random_.fill(payload, 32);
    put16(payload + 4, 32);
    payload[12] = 5 << 4;
    if (is_ip6 && choice & 64) payload[0] = static_cast<uint8_t>(133 + choice % 4);
  }

  const std::string mode_;
  const std::array<uint8_t, 6> mac_, peer_mac_, gateway_mac_;
  const std::array<uint8_t, 4> ip_, peer_, gateway_, outside_, vip_;
  const std::array<uint8_t, 16> ip6_, peer6_;
  Random random_;
};

/** Floods from the underlay. Packets that claim to come from a peer have its address, forged. */
class Tunnel {
 public:
  explicit Tunnel(const Options& options)
      : mode_(options.text("mode")),
        mac_(mac(options, "mac")),
        next_mac_(mac(options, "next-mac")),
        inner_mac_(mac(options, "inner-mac")),
        inner_peer_mac_(mac(options, "inner-peer-mac")),
        peer_(ip<4>(options, "peer")),
        local_(ip<4>(options, "local")),
        inner_(ip<4>(options, "inner")),
        inner_peer_(ip<4>(options, "inner-peer")),
        vni_(static_cast<uint32_t>(options.number("vni"))),
        random_(static_cast<uint64_t>(options.number("seed"))) {}

  size_t write(uint8_t* to) {
    auto vtep = peer_;
    uint32_t vni = vni_, from = kFrom, port = kTo;
    auto source = inner_mac_, destination = inner_peer_mac_;
    if (mode_ == "unknown-vteps") {
      random_.fill(vtep.data() + random_.next() % 4, 1);
      random_.fill(vtep.data() + 3, 1);
      if (vtep == peer_) vtep[3] ^= 4;
    } else if (mode_ == "unknown-vnis") {
      vni = random_.next() >> 8;
      if (vni == vni_) ++vni;
    } else if (mode_ == "peer-macs") {
      random_.fill(source.data() + 1, 5);
    } else if (mode_ == "peer-destinations") {
      random_.fill(destination.data() + 1, 5);
    } else if (mode_ == "peer-ports") {
      from = random_.next();
      port = random_.next();
    } else if (mode_ != "benign") {
      usage("no such mode of the tunnel: " + mode_);
    }
    constexpr size_t inner = 14 + 20 + kUdpBytes;
    Writer frame{to};
    frame.ethernet(next_mac_.data(), mac_.data(), kIp4);
    uint8_t* outer = frame.ip4(vtep.data(), local_.data(), kUdp, 8 + 8 + inner);
    udp(outer, 49152 + random_.next() % 16384, 4789, 8 + 8 + inner);
    outer[8] = 0x08;
    outer[12] = static_cast<uint8_t>(vni >> 16);
    put16(outer + 13, vni);
    Writer inside{outer + 16, 14};
    memcpy(inside.at, destination.data(), 6);
    memcpy(inside.at + 6, source.data(), 6);
    put16(inside.at + 12, kIp4);
    udp(inside.ip4(inner_.data(), inner_peer_.data(), kUdp, kUdpBytes), from, port, kUdpBytes);
    return frame.length;
  }

 private:
  const std::string mode_;
  const std::array<uint8_t, 6> mac_, next_mac_, inner_mac_, inner_peer_mac_;
  const std::array<uint8_t, 4> peer_, local_, inner_, inner_peer_;
  const uint32_t vni_;
  Random random_;
};

template <typename Source>
int send(const Options& options) {
  constexpr size_t kBurst = 64;
  constexpr useconds_t kPaceUs = 200, kFullUs = 50;
  Source source(options);
  const double seconds = options.number("seconds"), rate = options.number("rate");
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  sockaddr_ll place{};
  place.sll_family = AF_PACKET;
  place.sll_ifindex = static_cast<int>(if_nametoindex(options.text("interface").c_str()));
  if (place.sll_ifindex == 0 || bind(fd, reinterpret_cast<sockaddr*>(&place), sizeof place) < 0) fail("bind");
  const int on = 1;
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);

  static uint8_t frames[kBurst][kMost];
  iovec parts[kBurst];
  mmsghdr messages[kBurst] = {};
  uint64_t sent = 0;
  const double start = clockSeconds();
  for (double at = start; at - start < seconds; at = clockSeconds()) {
    size_t burst = kBurst;
    if (rate > 0) {
      const double due = (at - start) * rate - static_cast<double>(sent);
      if (due < 1) {
        usleep(kPaceUs);
        continue;
      }
      burst = std::min(burst, static_cast<size_t>(due));
    }
    for (size_t i = 0; i < burst; ++i) {
      parts[i] = {frames[i], std::max(source.write(frames[i]), kLeast)};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int count = sendmmsg(fd, messages, static_cast<unsigned>(burst), 0);
    if (count > 0) {
      sent += static_cast<uint64_t>(count);
    } else if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) {
      usleep(kFullUs);
    } else {
      fail("sendmmsg");
    }
  }
  printf("{\"sent\": %lu, \"perSecond\": %.0f}\n", sent, static_cast<double>(sent) / seconds);
  return 0;
}

// New flows

int new_flows(const Options& options) {
  const sockaddr_in to = address(options.text("to"), static_cast<int>(options.number("port")));
  const double seconds = options.number("seconds"), rate = options.number("rate");
  const double in_time = options.number("in-time-ms") / 1e3;
  struct Open {
    int fd;
    double sent_at;
  };
  std::vector<Open> open;
  std::vector<double> took_ms;
  size_t asked = 0;
  const double start = clockSeconds();
  while (clockSeconds() - start < seconds || !open.empty()) {
    const double at = clockSeconds();
    if (at - start < seconds && (at - start) * rate > static_cast<double>(asked)) {
      const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) fail("connect");
      open.push_back({fd, clockSeconds()});
      ++asked;
      if (::send(fd, "q", 1, 0) < 0 && errno != ECONNREFUSED) fail("send");
    }
    std::vector<pollfd> polled;
    for (const Open& one : open) polled.push_back({one.fd, POLLIN, 0});
    poll(polled.data(), polled.size(), 1);
    const double then = clockSeconds();
    for (size_t i = open.size(); i-- > 0;) {
      char byte;
      const bool answered = polled[i].revents && recv(open[i].fd, &byte, 1, 0) == 1;
      if (answered && then - open[i].sent_at <= in_time) took_ms.push_back((then - open[i].sent_at) * 1e3);
      if (!answered && then - open[i].sent_at <= in_time) continue;
      close(open[i].fd);
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  std::sort(took_ms.begin(), took_ms.end());
  const auto quantile = [&](double q) {
    return took_ms.empty() ? 0.0 : took_ms[static_cast<size_t>(q * static_cast<double>(took_ms.size() - 1))];
  };
  printf("{\"asked\": %zu, \"answered\": %zu, \"p50Ms\": %.3f, \"p99Ms\": %.3f}\n", asked, took_ms.size(), quantile(0.5), quantile(0.99));
  return 0;
}

int echo(const Options& options) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<uint16_t>(options.number("port")));
  if (bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) < 0) fail("bind");
  puts("ready");
  fflush(stdout);
  for (;;) {
    pollfd waits[2] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    if (poll(waits, 2, -1) < 0 && errno != EINTR) fail("poll");
    if (waits[1].revents) return 0;
    char bytes[2048];
    sockaddr_in from;
    socklen_t length = sizeof from;
    const ssize_t got = recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &length);
    if (got > 0) sendto(fd, bytes, static_cast<size_t>(got), 0, reinterpret_cast<sockaddr*>(&from), length);
  }
}

}  // namespace

int main(int count, char** words) {
  const std::string_view verb = count > 1 ? words[1] : "";
  const Options options(std::max(count - 2, 0), words + std::min(count, 2));
  if (verb == "frames") return send<Frames>(options);
  if (verb == "tunnel") return send<Tunnel>(options);
  if (verb == "new-flows") return new_flows(options);
  if (verb == "echo") return echo(options);
  usage("expected frames, tunnel, new-flows or echo");
}
