#include "nftables.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "fd.h"
#include "netlink.h"

namespace weft {

int64_t ruleset_generation() {
  constexpr size_t kHeaderBytes = NLMSG_ALIGN(NLMSG_LENGTH(sizeof(nfgenmsg)));
  const Fd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (netlink.get() < 0) return -errno;
  struct {
    nlmsghdr header;
    nfgenmsg family;
  } request = {};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  if (send(netlink.get(), &request, sizeof request, 0) < 0) return -errno;
  // The kernel has answered when `send` returns: with one message, or with an error.
  alignas(nlmsghdr) uint8_t answer[256];
  const ssize_t bytes = recv(netlink.get(), answer, sizeof answer, MSG_DONTWAIT);
  if (bytes < 0) return -errno;
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
  if (!NLMSG_OK(header, static_cast<size_t>(bytes))) return -EBADMSG;
  if (header->nlmsg_type == NLMSG_ERROR) return static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
  if (header->nlmsg_len < kHeaderBytes) return -EBADMSG;
  const auto* first = reinterpret_cast<const rtattr*>(answer + kHeaderBytes);
  const rtattr* id = find_attribute(first, header->nlmsg_len - kHeaderBytes, NFTA_GEN_ID);
  if (!id || RTA_PAYLOAD(id) != sizeof(uint32_t)) return -EBADMSG;
  uint32_t generation;
  memcpy(&generation, RTA_DATA(id), sizeof generation);
  return ntohl(generation);
}

}  // namespace weft
