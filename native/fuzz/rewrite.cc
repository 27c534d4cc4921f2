// Any frame with any virtio_net_hdr through an MTU check and rewrites, to a port that takes
// superframes and to one that takes none.
//
// Whatever comes in, no packet is larger than the MTU, every frame that leaves would be accepted, and
// each frame is accounted for.
#include <vector>

#include "../checksum.h"
#include "../datapath.h"
#include "../extract.h"
#include "../io/tap.h"
#include "../offload.h"
#include "fuzz.h"

using namespace weft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The input: what to do (u8), an MTU (u16, 0: none), a virtio_net_hdr, the frame.
  if (size < 3 + sizeof(VnetHdr)) return 0;
  const bool routes = *data & 1, clamps = *data & 2, finishes = *data & 4, marks = *data & 8;
  const uint32_t mss = load16(data + 1);
  // Large enough that a first fragment has room for the headers that extract requires.
  const uint32_t mtu = load16(data + 1) ? 200 + load16(data + 1) % 3000 : 0;
  VnetHdr vnet;
  memcpy(&vnet, data + 3, sizeof vnet);
  data += 3 + sizeof vnet;
  size -= 3 + sizeof vnet;
  const fuzz::Exact bytes(data, size);
  if (finishes) fuzz::finish_ipv4_header(bytes.bytes(), size);

  uint64_t transmitted = 0;
  MemoryHooks hooks;
  hooks.transmit = [&](uint16_t port, const Frame& frame) {
    ++transmitted;
    const fuzz::Exact copy(frame);
    FUZZ_CHECK(!mtu || packet_bytes(frame) <= mtu);
    FUZZ_CHECK(port == 2 || frame.vnet == VnetHdr{});
    Key key = {};
    Layout layout;
    // Routed neighbor discovery has lost the hop limit that identifies it (RFC 4861 §6.1).
    const Reason bad = extract(copy.bytes(), frame.length, &key, &layout);
    FUZZ_CHECK(bad == kNoDrop ? layout.length == frame.length : routes && bad == Reason::nd_malformed);
  };
  Datapath datapath(4, {}, 1, 0, hooks);
  for (uint16_t number : {1, 2, 3}) {
    auto port = std::make_unique<Port>();
    port->number = number;
    if (number == 2) port->offloads = kOffloadAll;
    datapath.add_port(std::move(port));
  }
  std::vector<Action> actions;
  // There are no connections, so it is treated as one without a record.
  if (marks) actions.push_back({Op::track, {Treatment::kSetsDscp | 46, 0, 0}, 1, {}});
  if (mtu) actions.push_back({Op::mtu, {}, mtu, {}});
  actions.push_back({routes ? Op::route : Op::echo, {}, 0, {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}});
  if (clamps) actions.push_back({Op::clamp, {}, mss, {}});
  actions.push_back({Op::output, {}, 2, {}});
  actions.push_back({Op::output, {}, 3, {}});
  FUZZ_CHECK(actions_valid(actions.data(), actions.size()));
  datapath.flow_put(1, Words{}, Words{}, actions.data(), actions.size());

  const Frame frame = {bytes.bytes(), static_cast<uint32_t>(size), vnet};
  const size_t arrivals = datapath.receive(1, &frame, 1);
  for (size_t i = 0; i < arrivals; ++i) datapath.forward(1, i);
  // A frame that caused an upcall gets the same actions as an answer.
  UpcallRecord upcall;
  while (datapath.take_upcalls(&upcall, 1)) {
    datapath.execute(static_cast<Token>(upcall.token), actions.data(), actions.size());
  }

  const Counters& counters = datapath.counters();
  FUZZ_CHECK(counters.rx == 1 && counters.tx == transmitted);
  fuzz::check_conservation(&datapath);
  return 0;
}
