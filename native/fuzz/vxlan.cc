// Any bytes as a VXLAN payload, up to what leaves the tunnel again: what was
// received is the inner frame, its checksum finished if need be, encapsulated
// anew, or is counted as dropped.
#include "../datapath.h"

#include "../checksum.h"
#include "../extract.h"
#include "../vxlan.h"
#include "fuzz.h"

using namespace weft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint64_t transmitted = 0;
  MemoryHooks hooks;
  hooks.transmit_datagram = [&](uint16_t port, const uint8_t*, uint32_t, const Frame& payload) {
    FUZZ_CHECK(port == 1 && payload.length <= size && payload.length >= kVxlanBytes + kEthernetBytes);
    // The 24 bits of the VNI that the action says, and the frame behind them.
    FUZZ_CHECK(memcmp(payload.data, "\x08\0\0\0\x12\x34\x56\0", 8) == 0);
    const uint32_t length = payload.length - kVxlanBytes;
    const fuzz::Exact frame(data + kVxlanBytes, length);
    Key key;
    uint32_t trimmed;
    FUZZ_CHECK(extract(frame.bytes(), length, &key, &trimmed) == kNoDrop && trimmed == length);
    finish_checksum(frame.bytes(), length, key);
    FUZZ_CHECK(memcmp(payload.data + kVxlanBytes, frame.bytes(), length) == 0);
    ++transmitted;
  };
  Datapath datapath(4, 1, hooks);
  auto port = std::make_unique<Port>();
  port->number = 1;
  port->kind = PortKind::memory_vxlan;
  datapath.add_port(std::move(port));
  const Action back = {Op::encap, {}, 0x123456, {}};
  datapath.flow_put(1, Words{}, Words{}, &back, 1);

  const uint8_t source[16] = {1};
  const fuzz::Exact payload(data, size, kHeadroom);
  datapath.receive_datagram(1, source, Frame{payload.bytes(), static_cast<uint32_t>(size), {}});
  const Counters& counters = datapath.counters();
  uint64_t drops = 0;
  for (uint64_t count : counters.drops) drops += count;
  FUZZ_CHECK(counters.rx == 1 && counters.tx + drops == 1 && counters.tx == transmitted);
  const bool header = size >= kVxlanBytes + kEthernetBytes && (data[0] & kVxlanFlagI);
  FUZZ_CHECK(header == (counters.drops[static_cast<size_t>(Reason::vxlan_malformed)] == 0));
  return 0;
}
