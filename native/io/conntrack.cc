#include "conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <vector>

#include "fd.h"
#include "netlink.h"

namespace weft {
namespace {

constexpr size_t kHeaderBytes = NLMSG_ALIGN(NLMSG_LENGTH(sizeof(nfgenmsg)));

// So many in one call that the refusals of all of them fit the socket's buffer.
constexpr size_t kDeletionsPerSend = 64;
constexpr uint8_t kEchoRequest = 8;
constexpr uint8_t kEchoRequest6 = 128;

// One direction of a connection, as the kernel describes it.
struct Tuple {
  uint8_t source[16];
  uint8_t destination[16];
  uint8_t protocol;
  uint16_t source_port;
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

bool read_port(const rtattr* proto, unsigned type, uint16_t* out) {
  const rtattr* port = find_nested(proto, type);
  if (!port || RTA_PAYLOAD(port) != 2) return false;
  memcpy(out, RTA_DATA(port), 2);
  *out = ntohs(*out);
  return true;
}

bool read_tuple(const rtattr* tuple, Tuple* out) {
  const rtattr* ip = find_nested(tuple, CTA_TUPLE_IP);
  if (!read_ip(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC, out->source)) return false;
  if (!read_ip(ip, CTA_IP_V4_DST, CTA_IP_V6_DST, out->destination)) return false;
  const rtattr* proto = find_nested(tuple, CTA_TUPLE_PROTO);
  const rtattr* number = find_nested(proto, CTA_PROTO_NUM);
  if (!number || RTA_PAYLOAD(number) != 1) return false;
  memcpy(&out->protocol, RTA_DATA(number), 1);
  return read_port(proto, CTA_PROTO_SRC_PORT, &out->source_port) &&
         read_port(proto, CTA_PROTO_DST_PORT, &out->destination_port);
}

bool has_address(const uint8_t* addresses, size_t count, const uint8_t* address) {
  for (size_t i = 0; i < count; ++i) {
    if (memcmp(addresses + 16 * i, address, 16) == 0) return true;
  }
  return false;
}

bool is_stale(const Publishing& publishing, const Tuple& original, const Tuple& reply) {
  if (original.protocol != IPPROTO_UDP) return false;
  for (size_t i = 0; i < publishing.front_count; ++i) {
    const ServiceFront& front = publishing.fronts[i];
    if (front.port != original.destination_port || memcmp(front.address, original.destination, 16) != 0) continue;
    const bool is_to_target = has_address(publishing.targets, publishing.target_count, reply.source);
    return !is_to_target || reply.source_port != front.target_port;
  }
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

// A message that deletes exactly this connection: by its first direction, its zone and its id.
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

// Calls `each` with the messages of an answer, up to its end or acknowledgement. 0 or -errno.
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

void add_attribute(Message* message, unsigned type, const void* value, size_t bytes) {
  rtattr header = {};
  header.rta_len = static_cast<uint16_t>(RTA_LENGTH(bytes));
  header.rta_type = static_cast<uint16_t>(type);
  const size_t at = message->size();
  message->resize(at + RTA_SPACE(bytes));
  memcpy(message->data() + at, &header, sizeof header);
  if (bytes > 0) memcpy(message->data() + at + RTA_LENGTH(0), value, bytes);
}

// An attribute whose content is what `fill` adds.
template <typename Fill>
void add_nested(Message* message, unsigned type, Fill fill) {
  const size_t at = message->size();
  add_attribute(message, NLA_F_NESTED | type, nullptr, 0);
  fill();
  const auto bytes = static_cast<uint16_t>(message->size() - at);
  memcpy(message->data() + at + offsetof(rtattr, rta_len), &bytes, sizeof bytes);
}

// Appends a message that deletes the connection of one record of kHostConnectionBytes.
void add_deletion(Message* messages, const uint8_t* record) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const uint8_t *source = record, *destination = record + 16, *ports = record + 32, *protocol = record + 36;
  const bool is_v4 = memcmp(source, kMapped, sizeof kMapped) == 0;
  const size_t at = messages->size();
  messages->resize(at + kHeaderBytes);
  add_nested(messages, CTA_TUPLE_ORIG, [&] {
    add_nested(messages, CTA_TUPLE_IP, [&] {
      if (is_v4) {
        add_attribute(messages, CTA_IP_V4_SRC, source + 12, 4);
        add_attribute(messages, CTA_IP_V4_DST, destination + 12, 4);
      } else {
        add_attribute(messages, CTA_IP_V6_SRC, source, 16);
        add_attribute(messages, CTA_IP_V6_DST, destination, 16);
      }
    });
    add_nested(messages, CTA_TUPLE_PROTO, [&] {
      add_attribute(messages, CTA_PROTO_NUM, protocol, 1);
      const bool is_ping = *protocol == IPPROTO_ICMP || *protocol == IPPROTO_ICMPV6;
      if (!is_ping) {
        add_attribute(messages, CTA_PROTO_SRC_PORT, ports, 2);
        add_attribute(messages, CTA_PROTO_DST_PORT, ports + 2, 2);
        return;
      }
      const uint8_t type = is_v4 ? kEchoRequest : kEchoRequest6, code = 0;
      add_attribute(messages, is_v4 ? CTA_PROTO_ICMP_ID : CTA_PROTO_ICMPV6_ID, ports, 2);
      add_attribute(messages, is_v4 ? CTA_PROTO_ICMP_TYPE : CTA_PROTO_ICMPV6_TYPE, &type, 1);
      add_attribute(messages, is_v4 ? CTA_PROTO_ICMP_CODE : CTA_PROTO_ICMPV6_CODE, &code, 1);
    });
  });
  const nlmsghdr header = header_of(IPCTNL_MSG_CT_DELETE, 0, messages->size() - at);
  memcpy(messages->data() + at, &header, sizeof header);
  nfgenmsg info = {};
  info.nfgen_family = is_v4 ? AF_INET : AF_INET6;
  memcpy(messages->data() + at + NLMSG_HDRLEN, &info, sizeof info);
}

// Reads what the kernel has answered so far: it answers before send() returns, and only if it refuses. Adds to
// `missing` the connections that had already ended. 0 or -errno.
int receive_refusals(int netlink, int* missing) {
  alignas(nlmsghdr) uint8_t buffer[32768];
  for (;;) {
    const ssize_t got = recv(netlink, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN ? 0 : -errno;
    auto left = static_cast<size_t>(got);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != NLMSG_ERROR) continue;
      const int error = static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
      if (error == -ENOENT) ++*missing;
      else if (error) return error;
    }
  }
}

}  // namespace

int forget_connections(const uint8_t* connections, size_t count) {
  Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (netlink.get() < 0) return -errno;
  int missing = 0;
  for (size_t first = 0; first < count; first += kDeletionsPerSend) {
    Message messages;
    for (size_t i = first; i < count && i < first + kDeletionsPerSend; ++i) {
      add_deletion(&messages, connections + i * kHostConnectionBytes);
    }
    if (send(netlink.get(), messages.data(), messages.size(), 0) < 0) return -errno;
    if (const int error = receive_refusals(netlink.get(), &missing)) return error;
  }
  return static_cast<int>(count) - missing;
}

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
    else if (error != -ENOENT) return error;  // that one had already ended
  }
  return deleted;
}

}  // namespace weft
