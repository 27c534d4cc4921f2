#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fd.h"
#include "privileges.h"
#include "socket.h"

#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace weft {
namespace {

constexpr size_t kReplyBytes = 65536;

// Runs `work` on a thread that ends with it. 0 or -errno.
int on_own_thread(const std::function<void()>& work) {
  const auto run = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  pthread_t thread;
  if (const int error = pthread_create(&thread, nullptr, run, const_cast<std::function<void()>*>(&work))) return -error;
  pthread_join(thread, nullptr);
  return 0;
}

// Opens the file of the namespace, and compares it with the one that is meant. 0 or -errno.
int open_netns(const NetnsTarget& target, Fd* netns, NetnsTarget* entered) {
  // O_NONBLOCK: opening it does not wait, whatever is at that path.
  Fd file(::open(target.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return -errno;
  if (ioctl(file.get(), NS_GET_NSTYPE) != CLONE_NEWNET) return -ENOTTY;
  struct stat identity;
  if (fstat(file.get(), &identity) < 0) return -errno;
  if (target.ino && (identity.st_dev != target.dev || identity.st_ino != target.ino)) return -ESTALE;
  *entered = {target.path, identity.st_dev, identity.st_ino};
  *netns = std::move(file);
  return 0;
}

int write_setting(const NetnsSetting& setting) {
  const Fd file(::open(setting.path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) return -errno;
  return write(file.get(), setting.value.data(), setting.value.size()) < 0 ? -errno : 0;
}

// Reads everything that answers one request: one NLMSG_ERROR, or a dump up to NLMSG_DONE.
int receive_replies(int netlink, std::vector<uint8_t>* replies) {
  alignas(nlmsghdr) thread_local char buffer[kReplyBytes];
  for (;;) {
    const ssize_t got = recv(netlink, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    replies->insert(replies->end(), buffer, buffer + NLMSG_ALIGN(got));
    auto left = static_cast<unsigned>(got);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) return 0;
    }
  }
}

// Runs in the namespace, on the helper thread.
int exchange_here(NetnsExchange* exchange) {
  for (NetnsSetting& setting : exchange->settings) setting.result = write_setting(setting);
  if (exchange->requests.empty()) return 0;
  const Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (netlink.get() < 0) return -errno;
  const int on = 1;
  // The kernel filters dumps; one that cannot (before 4.20) returns more.
  setsockopt(netlink.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  socklen_t cookie_bytes = sizeof exchange->cookie;
  getsockopt(netlink.get(), SOL_SOCKET, SO_NETNS_COOKIE, &exchange->cookie, &cookie_bytes);
  auto left = static_cast<unsigned>(exchange->requests.size());
  auto* header = reinterpret_cast<nlmsghdr*>(exchange->requests.data());
  for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
    if (send(netlink.get(), header, header->nlmsg_len, 0) < 0) return -errno;
    if (const int error = receive_replies(netlink.get(), &exchange->replies)) return error;
  }
  return 0;
}

// Runs in the namespace, on the helper thread.
int open_udp_here(const uint8_t address[16], uint16_t port, int receive_bytes) {
  const bool v6 = !is_ip4(address);
  Fd fd(socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return -errno;
  int error = v6 ? set(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0;
  if (!error) error = set_buffer(fd.get(), SO_RCVBUFFORCE, SO_RCVBUF, receive_bytes);
  SocketAddress to;
  const socklen_t length = to_socket_address(address, port, &to);
  if (!error && bind(fd.get(), &to.any, length) < 0) error = -errno;
  return error ? error : fd.release();
}

int enter_and(const NetnsTarget& target, NetnsTarget* entered, const std::function<int()>& work) {
  Fd netns;
  if (const int error = open_netns(target, &netns, entered)) return error;
  return setns(netns.get(), CLONE_NEWNET) < 0 ? -errno : work();
}

}  // namespace

int visit_netns(std::vector<NetnsVisit>* visits) {
  return on_own_thread([visits] {
    for (NetnsVisit& visit : *visits) visit.result = enter_and(visit.target, &visit.entered, visit.work);
  });
}

int create_netns() {
  int result = 0;
  const int error = on_own_thread([&result] {
    Fd netns;
    if (unshare(CLONE_NEWNET) == 0) netns = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    result = netns.get() < 0 ? -errno : netns.release();
  });
  return error ? error : result;
}

int enter_netns(int fd) {
  if (setns(fd, CLONE_NEWNET) < 0) return -errno;
  drop_capabilities();
  return 0;
}

int open_udp(const NetnsTarget& target, const uint8_t address[16], uint16_t port, int receive_bytes) {
  std::vector<NetnsVisit> visits;
  visits.push_back({target, [=] { return open_udp_here(address, port, receive_bytes); }});
  if (const int error = visit_netns(&visits)) return error;
  return visits[0].result;
}

int netns_exchange(std::vector<NetnsExchange>* exchanges) {
  std::vector<NetnsVisit> visits;
  for (NetnsExchange& exchange : *exchanges) {
    visits.push_back({{exchange.path.c_str(), exchange.dev, exchange.ino}, [&exchange] { return exchange_here(&exchange); }});
  }
  if (const int error = visit_netns(&visits)) return error;
  for (size_t i = 0; i < visits.size(); ++i) (*exchanges)[i].result = visits[i].result;
  return 0;
}

}  // namespace weft
