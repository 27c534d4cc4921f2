// Address translation (RFC 3022, RFC 4787, RFC 5508): addresses and ports of a connection's
// packets, and of the ICMP errors about it. Checksums are adjusted for the words that change (RFC
// 1624), so a wrong checksum stays wrong. It works in place; all headers must be in the first part
// of the frame. src/datapath/reference/nat.ts does the same.
#pragma once

#include <cstring>

#include "checksum.h"
#include "connection.h"
#include "extract.h"
#include "frame.h"
#include "key.h"
#include "rewrite.h"

namespace weft {

// By how much ones' complement sums change, for words at even offsets.
class SumChange {
 public:
  void write(uint8_t* to, const uint8_t* value, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 2) {
      change_.add16(static_cast<uint16_t>(~load16(to + i)));
      change_.add16(load16(value + i));
    }
    memcpy(to, value, bytes);
  }
  // Adds another change: another checksum covers a field that was rewritten.
  void changed(uint32_t from, uint32_t to) {
    change_.add16(static_cast<uint16_t>(~from));
    change_.add16(to);
  }
  void add(const SumChange& other) { change_.add16(other.change_.folded()); }
  // The new value of a checksum.
  uint16_t applied(uint32_t checksum) const {
    OnesSum sum = change_;
    sum.add16(static_cast<uint16_t>(~checksum));
    return sum.checksum();
  }
  // Applies it to a checksum field.
  void apply(uint8_t* checksum) const { store16(checksum, applied(load16(checksum))); }
  // Applies it to a UDP checksum, where 0 means that there is none.
  void apply_udp(uint8_t* checksum) const {
    const uint16_t sum = applied(load16(checksum));
    store16(checksum, sum ? sum : 0xffff);
  }
  // Applies it to the checksum of an ICMP message for IPv4, of which `bytes` bytes are there.
  void apply_icmp(uint8_t* icmp, size_t bytes) const { store_icmp_checksum(icmp, bytes, applied(load16(icmp + 2))); }
  // Applies it to the sum of a pseudo header, which is not complemented.
  void apply_unfinished(uint8_t* pseudo) const {
    OnesSum sum = change_;
    sum.add16(load16(pseudo));
    store16(pseudo, sum.folded());
  }

 private:
  OnesSum change_;
};

struct Endpoints {
  const uint8_t* source;  // 16 bytes
  const uint8_t* destination;
  const uint8_t* source_port;  // 2 bytes
  const uint8_t* destination_port;
};

inline Endpoints forwards(const Tuple& tuple) {
  return {tuple.source, tuple.destination, tuple.source_port, tuple.destination_port};
}
inline Endpoints backwards(const Tuple& tuple) {
  return {tuple.destination, tuple.source, tuple.destination_port, tuple.source_port};
}

namespace nat {

inline constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmpv6 = 58;

inline constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

inline bool is_v4(const uint8_t* mapped) { return memcmp(mapped, kMappedPrefix, sizeof kMappedPrefix) == 0; }

inline const uint8_t* address(const uint8_t* mapped, bool v4) { return mapped + (v4 ? 12 : 0); }

// Writes ports, or the identifier of an echo.
inline void write_ports(uint8_t* l4, uint8_t protocol, const Endpoints& to, SumChange* change) {
  if (protocol == kTcp || protocol == kUdp) {
    change->write(l4, to.source_port, 2);
    change->write(l4 + 2, to.destination_port, 2);
  } else {
    change->write(l4 + 4, to.source_port, 2);
  }
}

}  // namespace nat

inline bool is_ip(const Key& key) { return load16(key.eth_type) == 0x0800 || load16(key.eth_type) == 0x86dd; }

// The quoted packet decides about an ICMP error, so it is never handled together with others of its key.
inline bool is_icmp_error(const Key& key) {
  const uint32_t type = load16(key.l4_src);
  if (key.ip_proto == nat::kIcmpv6) return type < 128;
  return key.ip_proto == nat::kIcmp && ((type >= 3 && type <= 5) || type == 11 || type == 12);
}

// Where the L4 header is; 0 if there is none or it was not reached. `key` was extracted from the frame.
inline uint32_t l4_of(const Frame& frame, const Key& key) {
  if (!is_ip(key) || key.ip_frag == kFragLater) return 0;
  const auto l3 = static_cast<uint32_t>(l3_of(frame, key) - frame.data);
  if (key.eth_type[0] == 0x08) return l3 + (frame.data[l3] & 15) * 4u;
  if (frame.data[l3 + 6] == key.ip_proto) return l3 + 40;
  Key again;
  Layout layout;
  return extract(frame.data, frame.length, &again, &layout) == kNoDrop ? layout.l4 : 0;
}

// Can this packet belong to the connection, in this direction? For an echo, the original direction has
// the requests.
inline bool is_of(const Connection& connection, bool reply, const Key& key) {
  const bool v4 = load16(key.eth_type) == 0x0800;
  if (!is_ip(key) || key.ip_proto != connection.protocol) return false;
  if (nat::is_v4(connection.original.source) != v4) return false;
  if (key.ip_frag == kFragLater) return true;
  const uint32_t type = load16(key.l4_src);
  switch (key.ip_proto) {
    case nat::kIcmp:
      return v4 && type == (reply ? 0 : 8);
    case nat::kIcmpv6:
      return !v4 && type == (reply ? 129 : 128);
    default:
      return true;
  }
}

// A packet of the connection. Later fragments have addresses only.
inline void rewrite_nat(const Frame& frame, const Key& key, uint32_t l4, const Endpoints& to) {
  const bool v4 = key.eth_type[0] == 0x08;
  uint8_t* l3 = l3_of(frame, key);
  const size_t size = v4 ? 4 : 16;
  uint8_t* source = l3 + (v4 ? 12 : 8);
  SumChange change;
  change.write(source, nat::address(to.source, v4), size);
  change.write(source + size, nat::address(to.destination, v4), size);
  if (v4) change.apply(l3 + 10);
  if (!l4) return;

  uint8_t* header = frame.data + l4;
  if ((frame.vnet.flags & kNeedsCsum) && frame.vnet.csum_start == l4) {
    change.apply_unfinished(header + frame.vnet.csum_offset);
    SumChange ignored;
    return nat::write_ports(header, key.ip_proto, to, &ignored);
  }
  switch (key.ip_proto) {
    case nat::kTcp:
      nat::write_ports(header, key.ip_proto, to, &change);
      change.apply(header + kTcpCsumOffset);
      break;
    case nat::kUdp: {
      uint8_t* checksum = header + kUdpCsumOffset;
      const bool has_none = load16(checksum) == 0;
      nat::write_ports(header, key.ip_proto, to, &change);
      if (has_none) break;
      change.apply_udp(checksum);
      break;
    }
    case nat::kIcmp: {  // it covers no addresses
      SumChange identifier;
      nat::write_ports(header, key.ip_proto, to, &identifier);
      identifier.apply_icmp(header, frame.length - l4);
      break;
    }
    case nat::kIcmpv6:
      nat::write_ports(header, key.ip_proto, to, &change);
      change.apply(header + 2);
      break;
    default:
      break;
  }
}

// An ICMP error about a packet of the connection, on its way back to the sender of that packet (RFC
// 5508 §4). It quotes the packet as it came to the side of `from`. The quoted packet gets the
// addresses of `to`, and so does the destination of the error itself, and its source if that side
// is hidden behind an address. Returns false, with nothing changed, if it does not quote a packet
// of this connection.
inline bool rewrite_related(const Frame& frame, const Key& key, uint32_t l4, uint8_t protocol, const Endpoints& from,
                            const Endpoints& to) {
  const bool v4 = key.eth_type[0] == 0x08;
  if (l4 == 0 || frame.pieces || key.ip_frag != kFragNone) return false;
  if (key.ip_proto != (v4 ? nat::kIcmp : nat::kIcmpv6) || nat::is_v4(from.source) != v4) return false;
  const bool has_ports = protocol == nat::kTcp || protocol == nat::kUdp;
  if (!has_ports && protocol != key.ip_proto) return false;  // no other protocol is translated
  uint8_t* icmp = frame.data + l4;
  const size_t present = frame.length - l4;
  const size_t size = v4 ? 4 : 16;
  const size_t addresses = v4 ? 12 : 8;
  uint8_t* quoted = icmp + 8;
  if (present < 8 + (v4 ? 20u : 40u) + 8u || quoted[0] >> 4 != (v4 ? 4 : 6)) return false;
  // IPv6 packets are fragmented by their sender, so a first fragment may be quoted.
  const bool has_fragment_header = !v4 && quoted[6] == 44;
  const size_t header_bytes = v4 ? (quoted[0] & 15) * 4u : has_fragment_header ? 48 : 40;
  if (header_bytes < 20 || present < 8 + header_bytes + 8) return false;
  if (quoted[v4 ? 9 : has_fragment_header ? 40 : 6] != protocol) return false;
  if (v4 ? load16(quoted + 6) & 0x1fff : has_fragment_header && load16(quoted + 42) & 0xfff8) return false;
  uint8_t* quoted_l4 = quoted + header_bytes;
  const bool is_same = memcmp(quoted + addresses, nat::address(from.source, v4), size) == 0 &&
                       memcmp(quoted + addresses + size, nat::address(from.destination, v4), size) == 0 &&
                       memcmp(quoted_l4 + (has_ports ? 0 : 4), from.source_port, 2) == 0 &&
                       (!has_ports || memcmp(quoted_l4 + 2, from.destination_port, 2) == 0);
  if (!is_same) return false;

  // The quoted headers; `icmp_change` adds up the changes that the checksum of the error covers.
  SumChange quoted_change, icmp_change;
  const auto write = [&](uint8_t* at, const uint8_t* value, size_t bytes, SumChange* change) {
    for (size_t i = 0; i < bytes; i += 2) icmp_change.changed(load16(at + i), load16(value + i));
    change->write(at, value, bytes);
  };
  write(quoted + addresses, nat::address(to.source, v4), size, &quoted_change);
  write(quoted + addresses + size, nat::address(to.destination, v4), size, &quoted_change);
  const auto refresh = [&](uint8_t* checksum, auto apply) {
    const uint32_t before = load16(checksum);
    apply();
    icmp_change.changed(before, load16(checksum));
  };
  if (v4) refresh(quoted + 10, [&] { quoted_change.apply(quoted + 10); });
  const size_t quoted_bytes = present - 8 - header_bytes;
  if (has_ports) {
    write(quoted_l4, to.source_port, 2, &quoted_change);
    write(quoted_l4 + 2, to.destination_port, 2, &quoted_change);
    const bool is_udp = protocol == nat::kUdp;
    uint8_t* checksum = quoted_l4 + (is_udp ? kUdpCsumOffset : kTcpCsumOffset);
    const bool is_there = quoted_l4 + quoted_bytes >= checksum + 2;
    if (is_there && !is_udp) refresh(checksum, [&] { quoted_change.apply(checksum); });
    if (is_there && is_udp && load16(checksum)) refresh(checksum, [&] { quoted_change.apply_udp(checksum); });
  } else if (v4) {
    SumChange identifier;
    write(quoted_l4 + 4, to.source_port, 2, &identifier);
    refresh(quoted_l4 + 2, [&] { identifier.apply_icmp(quoted_l4, quoted_bytes); });
  } else {
    write(quoted_l4 + 4, to.source_port, 2, &quoted_change);
    refresh(quoted_l4 + 2, [&] { quoted_change.apply(quoted_l4 + 2); });
  }

  // The error itself.
  uint8_t* l3 = l3_of(frame, key);
  SumChange outer;
  if (memcmp(from.destination, to.destination, 16) != 0) {
    outer.write(l3 + addresses, nat::address(to.destination, v4), size);
  }
  outer.write(l3 + addresses + size, nat::address(to.source, v4), size);
  if (v4) {
    outer.apply(l3 + 10);
  } else {
    icmp_change.add(outer);
  }
  icmp_change.apply(icmp + 2);
  return true;
}

}  // namespace weft
