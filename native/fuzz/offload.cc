// Any bursts with any virtio_net_hdr, as a TAP would deliver them, through the check, the coalescer,
// the flow cache and all ways out: to a port that takes superframes, to one that takes none, and into
// the tunnel.
//
// Whatever comes in, no superframe leaves that would not be accepted; segmenting gives a port the same
// segments as the tunnel, with finished checksums; the payload of each flow goes out as it came in,
// byte by byte and in order; and each frame is accounted for.
#include <map>
#include <string>
#include <vector>

#include "../checksum.h"
#include "../datapath.h"
#include "../extract.h"
#include "../priority_tag.h"
#include "../io/tap.h"
#include "../offload.h"
#include "../rewrite.h"
#include "../vxlan.h"
#include "fuzz.h"

using namespace weft;

namespace {

// By flow, what follows the headers. Without fragments, which may wait or be dropped, as the target
// `fragments` shows.
using Streams = std::map<std::string, std::string>;

void append(Streams* streams, const uint8_t* data, uint32_t length) {
  Key key = {};
  Layout layout;
  if (extract(data, length, &key, &layout) != kNoDrop || key.ip_frag != kFragNone) return;
  const bool tcp = key.ip_proto == 6;
  const bool transport = layout.l4 && (tcp || key.ip_proto == 17);
  const uint32_t from = transport ? payload_offset(data, layout.l4, tcp) : 14;
  key.ip_tos = key.ip_ttl = 0;
  std::string& stream = (*streams)[std::string(reinterpret_cast<char*>(&key), sizeof key)];
  stream.append(reinterpret_cast<const char*>(data) + from, layout.length - from);
}

// The checksum after segmenting: finished, and right.
void check_finished(const uint8_t* data, uint32_t length) {
  Key key = {};
  Layout layout;
  FUZZ_CHECK(extract(data, length, &key, &layout) == kNoDrop && layout.length == length && layout.l4);
  const uint32_t l3 = load16(key.vlan_tci) ? 18 : 14;
  OnesSum sum = pseudo_sum(data + l3, load16(key.eth_type) == 0x0800, key.ip_proto, length - layout.l4);
  sum.add(data + layout.l4, length - layout.l4);
  FUZZ_CHECK(sum.folded() == 0xffff);
}

struct Input {
  std::vector<fuzz::Exact> storage;
  std::vector<Frame> frames;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Streams in, whole, cut, tunneled;
  uint64_t transmitted = 0;
  uint32_t due = 0;  // segments of the superframe that went to port 2
  MemoryHooks hooks;
  hooks.transmit = [&](uint16_t port, const Frame& frame) {
    ++transmitted;
    const fuzz::Exact bytes(frame);
    if (port == 2) {
      Key key = {};
      Layout layout;
      FUZZ_CHECK(extract(bytes.bytes(), frame.length, &key, &layout) == kNoDrop && layout.length == frame.length);
      Frame again = {bytes.bytes(), frame.length, frame.vnet};
      FUZZ_CHECK(offload_check(&again, key, layout.l4) && again.vnet == frame.vnet);
      due = frame.vnet.gso_type ? Segments(again).count() : 0;
      append(&whole, bytes.bytes(), frame.length);
    } else {
      FUZZ_CHECK(frame.vnet == VnetHdr{});
      append(&cut, bytes.bytes(), frame.length);
      if (due) check_finished(bytes.bytes(), frame.length);
    }
  };
  hooks.transmit_datagram = [&](uint16_t port, const uint8_t*, uint32_t, uint8_t, const iovec* parts) {
    FUZZ_CHECK(port == 4 && memcmp(parts[0].iov_base, "\x08\0\0\0\x12\x34\x56\0", 8) == 0);
    std::string payload(static_cast<const char*>(parts[0].iov_base), parts[0].iov_len);
    payload.append(static_cast<const char*>(parts[1].iov_base), parts[1].iov_len);
    append(&tunneled, reinterpret_cast<const uint8_t*>(payload.data()) + kVxlanBytes,
           static_cast<uint32_t>(payload.size() - kVxlanBytes));
    ++transmitted;
  };
  Datapath datapath(4, {}, 1, 0, hooks);
  for (uint16_t number : {1, 2, 3, 4}) {
    auto port = std::make_unique<Port>();
    port->number = number;
    if (number == 2) port->offloads = kOffloadAll;
    if (number == 4) port->kind = PortKind::memory_vxlan;
    datapath.add_port(std::move(port));
  }
  const Action actions[] = {{Op::output, {}, 2, {}}, {Op::output, {}, 3, {}}, {Op::encap, {}, 0x123456, {}}};
  datapath.flow_put(1, Words{}, Words{}, actions, 3);

  uint64_t received = 0, refused = 0, wrong = 0;
  bool comparable = true;
  while (size > 0) {
    // The input is a burst: the number of frames, and for each a header, a length (u16) and the
    // bytes. The highest bit of the length asks for a right IPv4 header checksum.
    Input burst;
    size_t frames = 1 + *data % 70;
    ++data, --size;
    for (; frames > 0 && size > sizeof(VnetHdr) + 2; --frames) {
      VnetHdr vnet;
      memcpy(&vnet, data, sizeof vnet);
      const uint32_t control = load16(data + sizeof vnet);
      data += sizeof vnet + 2;
      size -= sizeof vnet + 2;
      const size_t length = std::min<size_t>(control & 0x7fff, size);
      fuzz::Exact bytes(data, length);
      if (control & 0x8000) fuzz::finish_ipv4_header(bytes.bytes(), length);
      burst.frames.push_back(Frame{bytes.bytes(), static_cast<uint32_t>(length), vnet});
      burst.storage.push_back(std::move(bytes));
      data += length;
      size -= length;
    }
    for (const Frame& frame : burst.frames) {
      ++received;
      Key key = {};
      Layout layout;
      const fuzz::Exact bytes(frame.data, frame.length);
      Frame trimmed = {bytes.bytes(), frame.length, frame.vnet};
      untag_priority(&trimmed);
      if (extract(trimmed.data, trimmed.length, &key, &layout) != kNoDrop) continue;
      trimmed.length = layout.length;
      if (!offload_check(&trimmed, key, layout.l4)) {
        ++refused;
        continue;
      }
      const bool v4 = load16(key.eth_type) == 0x0800;
      if (trimmed.vnet.gso_type == kGsoNone || !v4 || has_right_ipv4_header(l3_of(trimmed, key))) {
        // A checksum outside of a transport header changes the payload.
        const bool transport = layout.l4 && (key.ip_proto == 6 || key.ip_proto == 17);
        const uint32_t field = uint32_t{trimmed.vnet.csum_start} + trimmed.vnet.csum_offset;
        const uint32_t expected = layout.l4 + (key.ip_proto == 6 ? kTcpCsumOffset : kUdpCsumOffset);
        if ((trimmed.vnet.flags & kNeedsCsum) && !(transport && field == expected)) comparable = false;
        append(&in, trimmed.data, trimmed.length);
      } else {
        ++wrong;
      }
    }
    const size_t arrivals = datapath.receive(1, burst.frames.data(), burst.frames.size());
    for (size_t i = 0; i < arrivals; ++i) datapath.forward(1, i);
  }

  const Counters& counters = datapath.counters();
  FUZZ_CHECK(counters.rx == received && counters.drops[static_cast<size_t>(Reason::bad_vnet_hdr)] == refused);
  FUZZ_CHECK(counters.drops[static_cast<size_t>(Reason::ipv4_checksum)] == wrong);
  FUZZ_CHECK(counters.tx == transmitted);
  fuzz::check_conservation(&datapath);
  FUZZ_CHECK(!comparable || (in == whole && in == cut && in == tunneled));
  return 0;
}
