#include "conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <vector>

#include "fd.h"
#include "netlink.h"

namespace weft {
namespace {

constexpr size_t kHeaderBytes = NLMSG_ALIGN(NLMSG_LENGTH(sizeof(nfgenmsg)));

// One direction of a connection, as the kernel tells of it.
struct Tuple {
  uint8_t source[16];
  uint8_t destination[16];
  uint8_t protocol;
  uint16_t destination_port;
};

bool read_ip(const rtattr* ip, unsigned type4, unsigned type6, uint8_t* out) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (const rtattr* at = find_nested(ip, type4); at && RTA_PAYLOAD(at) == 4) {
    memcpy(out, kMapped, sizeof kMapped);
    memcpy(out + sizeof kMapped, RTA_DATA(at), 4);
    return true;
  }
  const rtattr* at = find_nested(ip, type6);
  if (!at || RTA_PAYLOAD(at) != 16) return false;
  memcpy(out, RTA_DATA(at), 16);
  return true;
}

bool read_tuple(const rtattr* tuple, Tuple* out) {
  const rtattr* ip = find_nested(tuple, CTA_TUPLE_IP);
  if (!read_ip(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC, out->source)) return false;
  if (!read_ip(ip, CTA_IP_V4_DST, CTA_IP_V6_DST, out->destination)) return false;
  const rtattr* proto = find_nested(tuple, CTA_TUPLE_PROTO);
  const rtattr* number = find_nested(proto, CTA_PROTO_NUM);
  const rtattr* port = find_nested(proto, CTA_PROTO_DST_PORT);
  if (!number || RTA_PAYLOAD(number) != 1 || !port || RTA_PAYLOAD(port) != 2) return false;
  memcpy(&out->protocol, RTA_DATA(number), 1);
  memcpy(&out->destination_port, RTA_DATA(port), 2);
  out->destination_port = ntohs(out->destination_port);
  return true;
}

bool has_address(const uint8_t* addresses, size_t count, const uint8_t* address) {
  for (size_t i = 0; i < count; ++i) {
    if (memcmp(addresses + 16 * i, address, 16) == 0) return true;
  }
  return false;
}

bool is_stale(const Publishing& publishing, const Tuple& original, const Tuple& reply) {
  if (original.protocol != IPPROTO_UDP) return false;
  bool is_published = false;
  for (size_t i = 0; i < publishing.port_count; ++i) is_published |= publishing.ports[i] == original.destination_port;
  const bool is_translated = memcmp(original.destination, reply.source, 16) != 0;
  if (is_published) return !is_translated && has_address(publishing.own, publishing.own_count, original.destination);
  return is_translated && has_address(publishing.targets, publishing.target_count, reply.source);
}

nlmsghdr header_of(unsigned type, unsigned flags, size_t bytes) {
  nlmsghdr header = {};
  header.nlmsg_len = static_cast<uint32_t>(bytes);
  header.nlmsg_type = static_cast<uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | type);
  header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  return header;
}

using Message = std::vector<uint8_t>;

// What deletes this very connection: by its first direction, its zone and its id.
Message deletion(const nlmsghdr* entry) {
  Message message(kHeaderBytes);
  const auto* info = static_cast<const nfgenmsg*>(NLMSG_DATA(entry));
  memcpy(message.data() + NLMSG_HDRLEN, info, sizeof *info);
  const auto* first = reinterpret_cast<const rtattr*>(reinterpret_cast<const uint8_t*>(entry) + kHeaderBytes);
  for (const unsigned type : {CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID}) {
    const rtattr* at = find_attribute(first, entry->nlmsg_len - kHeaderBytes, type);
    if (!at) continue;
    const auto* bytes = reinterpret_cast<const uint8_t*>(at);
    message.insert(message.end(), bytes, bytes + at->rta_len);
    message.resize(NLMSG_ALIGN(message.size()));
  }
  const nlmsghdr header = header_of(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, message.size());
  memcpy(message.data(), &header, sizeof header);
  return message;
}

// Calls `each` with the messages of an answer, to its end or acknowledgement. 0 or -errno.
template <typename Each>
int receive(int netlink, Each each) {
  alignas(nlmsghdr) uint8_t buffer[32768];
  for (;;) {
    const ssize_t got = recv(netlink, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    auto left = static_cast<size_t>(got);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return 0;
      if (header->nlmsg_type == NLMSG_ERROR) return static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
      if (header->nlmsg_len >= kHeaderBytes) each(header);
    }
  }
}

}  // namespace

int forget_stale_udp(const Publishing& publishing) {
  Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (netlink.get() < 0) return -errno;
  uint8_t all[kHeaderBytes] = {};  // AF_UNSPEC: of both families
  const nlmsghdr header = header_of(IPCTNL_MSG_CT_GET, NLM_F_DUMP, sizeof all);
  memcpy(all, &header, sizeof header);
  if (send(netlink.get(), all, sizeof all, 0) < 0) return -errno;

  std::vector<Message> deletions;
  int error = receive(netlink.get(), [&](const nlmsghdr* entry) {
    const auto* first = reinterpret_cast<const rtattr*>(reinterpret_cast<const uint8_t*>(entry) + kHeaderBytes);
    const size_t bytes = entry->nlmsg_len - kHeaderBytes;
    Tuple original, reply;
    if (!read_tuple(find_attribute(first, bytes, CTA_TUPLE_ORIG), &original)) return;
    if (!read_tuple(find_attribute(first, bytes, CTA_TUPLE_REPLY), &reply)) return;
    if (is_stale(publishing, original, reply)) deletions.push_back(deletion(entry));
  });
  if (error) return error;

  int deleted = 0;
  for (const Message& message : deletions) {
    if (send(netlink.get(), message.data(), message.size(), 0) < 0) return -errno;
    error = receive(netlink.get(), [](const nlmsghdr*) {});
    if (error == 0) ++deleted;
    else if (error != -ENOENT) return error;  // that one has ended by itself
  }
  return deleted;
}

}  // namespace weft
