// Any bytes as a VXLAN payload, up to what leaves by the tunnel again: what was received is the
// inner frame, with its checksum completed if necessary, encapsulated again, or it is counted as
// dropped.
#include <vector>

#include "../datapath.h"

#include "../checksum.h"
#include "../extract.h"
#include "../priority_tag.h"
#include "../vxlan.h"
#include "fuzz.h"

using namespace weft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint64_t transmitted = 0;
  MemoryHooks hooks;
  hooks.transmit_datagram = [&](uint16_t port, const uint8_t*, uint32_t, uint8_t, const iovec* parts) {
    std::vector<uint8_t> payload(parts[0].iov_len + parts[1].iov_len);
    memcpy(payload.data(), parts[0].iov_base, parts[0].iov_len);
    if (parts[1].iov_len) memcpy(payload.data() + parts[0].iov_len, parts[1].iov_base, parts[1].iov_len);
    FUZZ_CHECK(port == 1 && payload.size() <= size && payload.size() >= kVxlanBytes + kEthernetBytes);
    // The 24 bits of the VNI in the action, and the frame behind them.
    FUZZ_CHECK(memcmp(payload.data(), "\x08\0\0\0\x12\x34\x56\0", 8) == 0);
    const auto length = static_cast<uint32_t>(payload.size() - kVxlanBytes);
    const fuzz::Exact bytes(data + kVxlanBytes, size - kVxlanBytes);
    Frame frame = {bytes.bytes(), static_cast<uint32_t>(size - kVxlanBytes), {}};
    untag_priority(&frame);
    FUZZ_CHECK(length <= frame.length);
    frame.length = length;
    Key key;
    Layout layout;
    FUZZ_CHECK(extract(frame.data, length, &key, &layout) == kNoDrop && layout.length == length);
    mark_unfinished(&frame, key, layout.l4);
    const Segments finished(frame);
    finished.headers(0, frame.data);
    FUZZ_CHECK(memcmp(payload.data() + kVxlanBytes, frame.data, length) == 0);
    ++transmitted;
  };
  Datapath datapath(4, {}, 1, 0, hooks);
  auto port = std::make_unique<Port>();
  port->number = 1;
  port->kind = PortKind::memory_vxlan;
  datapath.add_port(std::move(port));
  const Action back = {Op::encap, {}, 0x123456, {}};
  datapath.flow_put(1, Words{}, Words{}, &back, 1);

  const UnderlaySource source = {{1}};
  const fuzz::Exact bytes(data, size);
  const Frame payload = {bytes.bytes(), static_cast<uint32_t>(size), {}};
  const size_t arrivals = datapath.receive_datagrams(1, &source, &payload, 1);
  for (size_t i = 0; i < arrivals; ++i) datapath.forward(1, i);
  const Counters& counters = datapath.counters();
  FUZZ_CHECK(counters.rx == 1 && counters.tx == transmitted);
  fuzz::check_conservation(&datapath);
  const bool header = size >= kVxlanBytes + kEthernetBytes && (data[0] & kVxlanFlagI);
  FUZZ_CHECK(header == (counters.drops[static_cast<size_t>(Reason::vxlan_malformed)] == 0));
  return 0;
}
