// Connections of the host (nf_conntrack) that are forgotten, in a namespace of its own. Needs root.
#include <arpa/inet.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../io/conntrack.h"
#include "check.h"
#include "loopback.h"

using namespace weft;

namespace {

void ip4(uint8_t out[16], const char* text) {
  memset(out, 0, 10);
  out[10] = out[11] = 0xff;
  CHECK(inet_pton(AF_INET, text, out + 12) == 1);
}

void test_conntrack() {
  CHECK(system("nft 'add table ip t; add chain ip t c { type filter hook output priority 0; };"
               " add rule ip t c ct state new accept'") == 0);
  const int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(5300);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(sendto(client, "x", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof to) == 1);

  uint8_t own[16], other[16];
  ip4(own, "127.0.0.1");
  ip4(other, "192.0.2.1");
  const uint16_t ports[] = {53, 5300};
  Publishing publishing = {own, 1, own, 1, ports, 1, nullptr, 0};
  CHECK(forget_stale_udp(publishing) == 0);  // neither published nor translated
  publishing.port_count = 2;
  publishing.own = other;
  CHECK(forget_stale_udp(publishing) == 0);  // to another host
  publishing.own = own;
  CHECK(forget_stale_udp(publishing) == 1);
  CHECK(forget_stale_udp(publishing) == 0);

  // What leads to another port than its own: before it is translated, translated, and with another port in mind.
  const auto send_one = [&] { CHECK(sendto(client, "x", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof to) == 1); };
  ServiceFront front = {{}, 5300, 30053};
  memcpy(front.address, own, sizeof front.address);
  publishing.port_count = 0;
  publishing.fronts = &front;
  publishing.front_count = 1;
  send_one();
  CHECK(forget_stale_udp(publishing) == 1);
  CHECK(system("nft 'add chain ip t n { type nat hook output priority -100; };"
               " add rule ip t n udp dport 5300 dnat to 127.0.0.1:30053'") == 0);
  send_one();
  CHECK(forget_stale_udp(publishing) == 0);
  front.target_port = 30054;
  CHECK(forget_stale_udp(publishing) == 1);

  // By tuple for both families, and by identifier for a ping. There are more than fit into one call.
  CHECK(system("nft 'add table ip6 t; add chain ip6 t c { type filter hook output priority 0; };"
               " add rule ip6 t c ct state new accept'") == 0);
  constexpr int kCount = 150;
  static uint8_t records[2 * kCount * kHostConnectionBytes];
  uint8_t* record = records;
  for (const int family : {AF_INET, AF_INET6}) {
    sockaddr_in6 self6 = {};
    self6.sin6_family = AF_INET6;
    self6.sin6_addr = in6addr_loopback;
    self6.sin6_port = htons(5300);
    const auto* self = family == AF_INET ? reinterpret_cast<sockaddr*>(&to) : reinterpret_cast<sockaddr*>(&self6);
    const socklen_t bytes = family == AF_INET ? sizeof to : sizeof self6;
    const int from = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(connect(from, self, bytes) == 0);
    sockaddr_in6 bound = {};
    socklen_t bound_bytes = sizeof bound;
    CHECK(getsockname(from, reinterpret_cast<sockaddr*>(&bound), &bound_bytes) == 0);
    close(from);
    for (int i = 0; i < kCount; ++i, record += kHostConnectionBytes) {
      const int one = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      CHECK(bind(one, reinterpret_cast<sockaddr*>(&bound), bound_bytes) == 0);
      const uint16_t port = htons(static_cast<uint16_t>(6000 + i));
      to.sin_port = self6.sin6_port = port;
      CHECK(sendto(one, "x", 1, 0, self, bytes) == 1);
      close(one);
      if (family == AF_INET) {
        ip4(record, "127.0.0.1");
        ip4(record + 16, "127.0.0.1");
      } else {
        record[15] = record[31] = 1;
      }
      memcpy(record + 32, &bound.sin6_port, 2);  // at the same offset in sockaddr_in
      memcpy(record + 34, &port, 2);
      record[36] = IPPROTO_UDP;
    }
  }
  CHECK(forget_connections(records, kCount) == kCount);
  CHECK(forget_connections(records, 2 * kCount) == kCount);
  CHECK(forget_connections(records, 2 * kCount) == 0);

  // A ping sent through a raw socket, with the identifier 777.
  const uint8_t ping[] = {8, 0, 0xf4, 0xf6, 0x03, 0x09, 0, 0};
  const int raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
  CHECK(sendto(raw, ping, sizeof ping, 0, reinterpret_cast<sockaddr*>(&to), sizeof to) == sizeof ping);
  memcpy(records + 32, ping + 4, 2);
  memcpy(records + 34, ping + 4, 2);
  records[36] = IPPROTO_ICMP;
  CHECK(forget_connections(records, 1) == 1);
  close(raw);
  close(client);
}

}  // namespace

int main() {
  if (geteuid() != 0) {
    fprintf(stderr, "conntrack_test needs root\n");
    return 1;
  }
  CHECK(unshare(CLONE_NEWNET) == 0);
  loopback_up();
  test_conntrack();
  printf("conntrack_test: ok\n");
}
