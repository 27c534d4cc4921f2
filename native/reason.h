// Why a frame can end in weft: the names and numbers of src/flow/reason.ts, in
// its order, compared at load. Both files change together.
#pragma once

#include <cstddef>
#include <cstdint>

#define WEFT_REASONS(X)                                                              \
  X(frame_too_short) X(frame_too_long) X(bad_vnet_hdr) X(arp_malformed)              \
  X(ipv4_malformed) X(ipv6_malformed) X(ipv6_ext_headers) X(l4_truncated)            \
  X(nd_malformed) X(fragment_malformed) X(fragment_tiny) X(ipv4_mapped)              \
  X(ipv4_checksum)                                                                   \
  X(vxlan_malformed) X(vxlan_unknown_vni) X(vxlan_unknown_vtep) X(vxlan_own_address) \
  X(vxlan_source_local) X(vxlan_source_elsewhere) X(vxlan_spoof_gateway)             \
  X(vxlan_spoof_arp) X(vxlan_spoof_nd)                                               \
  X(probe_malformed) X(probe_unknown_peer) X(probe_unauthentic) X(probe_replayed)    \
  X(probe_limit) X(ecn_ce_not_ect) X(vtep_not_owner)                                \
  X(fragment_overlap) X(fragment_duplicate) X(fragment_limit) X(fragment_timeout)    \
  X(upcall_queue_full) X(upcall_parked_full) X(upcall_rate_limit) X(upcall_lost)          \
  X(rate_limit_ingress)    \
  X(rate_limit_egress) X(storm_control) X(rate_limit_sockets)                        \
  X(port_gone) X(port_down) X(tx_error)                                \
  X(underlay_mtu) X(underlay_unreachable) X(underlay_error) X(underlay_missing)      \
  X(bad_source_mac) X(vlan_not_carried) X(bridge_control) X(spoof_mac) X(spoof_ip4)  \
  X(spoof_ip6) X(spoof_arp) X(spoof_nd) X(rogue_ra) X(rogue_dhcp)                    \
  X(bad_destination_mac) X(mac_control) X(cisco_control)                             \
  X(ethertype_llc) X(ethertype_rarp) X(ethertype_refused)                            \
  X(same_port) X(split_horizon) X(no_destination) X(port_unknown) X(vtep_down)       \
  X(gateway_elsewhere) X(gateway_refused) X(martian) X(ttl_exceeded) X(no_route)     \
  X(route_blackhole) X(route_unreachable) X(route_prohibit) X(too_big) X(neighbor_unresolved) \
  X(connection_gone) X(connection_limit) X(nat_ports) X(nat_protocol) X(no_connection) X(icmp_unrelated) \
  X(vxlan_injection) X(half_open_limit) \
  X(service_unknown) X(service_no_backend) X(service_local) X(service_full) \
  X(policy_egress) X(policy_ingress) \
  X(hook_denied) X(hook_failed) X(hook_rate_limit)

namespace weft {

enum class Reason : uint8_t {
#define X(name) name,
  WEFT_REASONS(X)
#undef X
};

inline constexpr const char* kReasonNames[] = {
#define X(name) #name,
    WEFT_REASONS(X)
#undef X
};

inline constexpr size_t kReasons = sizeof kReasonNames / sizeof *kReasonNames;

// Not dropped.
inline constexpr Reason kNoDrop = Reason(255);
static_assert(kReasons <= size_t(kNoDrop), "too many drop reasons: widen Reason, which is one byte");

}  // namespace weft
