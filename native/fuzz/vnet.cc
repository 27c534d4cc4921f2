// Any virtio_net_hdr before any frame, as a TAP would give it, in a sequence of
// frames that miss, park, are answered and hit: nothing that asks for offload
// work passes, every frame leaves with a header that asks for none, and each is
// accounted for.
#include "../datapath.h"

#include "fuzz.h"

using namespace weft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint64_t transmitted = 0;
  MemoryHooks hooks;
  hooks.transmit = [&](uint16_t port, const Frame& frame) {
    const VnetHdr none = {};
    FUZZ_CHECK(port == 2 && memcmp(&frame.vnet, &none, sizeof none) == 0);
    ++transmitted;
  };
  Datapath datapath(4, 1, hooks);
  for (uint16_t number : {1, 2}) {
    auto port = std::make_unique<Port>();
    port->number = number;
    datapath.add_port(std::move(port));
  }
  const Action output = {Op::output, {}, 2, {}};
  uint64_t received = 0, refused = 0;
  // Frames one behind the other: header, a length (u8), so many bytes.
  while (size > sizeof(VnetHdr)) {
    VnetHdr vnet;
    memcpy(&vnet, data, sizeof vnet);
    const size_t length = data[sizeof vnet] < size - sizeof vnet ? data[sizeof vnet] : size - sizeof vnet - 1;
    const fuzz::Exact frame(data + sizeof vnet + 1, length, kHeadroom);
    datapath.receive(1, Frame{frame.bytes(), static_cast<uint32_t>(length), vnet});
    ++received;
    refused += (vnet.flags & ~2) != 0 || vnet.gso_type != 0;
    data += sizeof vnet + 1 + length;
    size -= sizeof vnet + 1 + length;

    UpcallRecord upcall;
    if (length % 3 == 0 && datapath.take_upcalls(&upcall, 1) == 1) {
      FUZZ_CHECK(upcall.head_length <= kHeadBytes && upcall.head_length <= upcall.length);
      if (length % 2) datapath.flow_put(1, Words::of(upcall.key), Words::of(upcall.key), &output, 1);
      datapath.execute(static_cast<Token>(upcall.token), &output, 1);
    }
  }
  const Counters& counters = datapath.counters();
  uint64_t drops = 0;
  for (uint64_t count : counters.drops) drops += count;
  FUZZ_CHECK(counters.rx == received && counters.drops[static_cast<size_t>(Reason::bad_vnet_hdr)] == refused);
  FUZZ_CHECK(counters.tx == transmitted && received == transmitted + drops + datapath.held());
  return 0;
}
