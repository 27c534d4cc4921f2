// Any frame with any virtio_net_hdr is refused, by each kind of answer, on a local port and from the tunnel.
//
// Whatever comes in, it is dropped and answered at most once, by a frame that any receiver would accept:
// of the right size, to where the frame came from, with correct checksums.
#include <vector>

#include "../checksum.h"
#include "../datapath.h"
#include "../extract.h"
#include "../refuse.h"
#include "../vxlan.h"
#include "fuzz.h"

using namespace weft;

namespace {

constexpr uint16_t kLocal = 1, kTunnel = 2;
constexpr uint32_t kVni = 0x123456;
constexpr Reason kRefused = Reason::no_route;

// `to` is the frame that is answered, as it came in.
void check_answer(const Action& action, const Frame& answer, const uint8_t* to) {
  const bool reset = action.answer() == Answer::tcp_reset;
  Key key = {};
  Layout layout;
  FUZZ_CHECK(extract(answer.data, answer.length, &key, &layout) == kNoDrop);
  FUZZ_CHECK(layout.length == answer.length && layout.l4 != 0);
  FUZZ_CHECK(memcmp(answer.data, to + 6, 6) == 0 && memcmp(answer.data + 6, to, 6) == 0);
  const bool v4 = load16(key.eth_type) == 0x0800;
  const uint8_t* l3 = answer.data + 14;
  FUZZ_CHECK(answer.length <= 14u + (v4 ? 576 : 1280));
  FUZZ_CHECK(!v4 || has_right_ipv4_header(l3));
  FUZZ_CHECK(key.ip_proto == (reset ? 6 : v4 ? 1 : 58));
  FUZZ_CHECK(key.ip_frag == kFragNone && key.ip_ttl == 64);
  const uint32_t bytes = answer.length - layout.l4;
  OnesSum sum = key.ip_proto == 1 ? OnesSum() : pseudo_sum(l3, v4, key.ip_proto, bytes);
  sum.add(answer.data + layout.l4, bytes);
  FUZZ_CHECK(sum.folded() == 0xffff);
  FUZZ_CHECK(reset || memcmp(key.ip_src, action.address, 16) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The input: the answer and its family and way (u8), a virtio_net_hdr, the frame.
  if (size < 1 + sizeof(VnetHdr)) return 0;
  const bool tunnel = *data & 0x80, v4 = *data & 0x40;
  const uint32_t answer = (*data & 0x3fu) % static_cast<uint32_t>(kAnswers);
  Action action = {Op::refuse, {}, static_cast<uint32_t>(kRefused) | answer << 8, {0xfd}};
  if (v4) memcpy(action.address, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\xfe", 16);
  FUZZ_CHECK(actions_valid(&action, 1));
  VnetHdr vnet;
  memcpy(&vnet, data + 1, sizeof vnet);
  data += 1 + sizeof vnet;
  size -= 1 + sizeof vnet;
  std::vector<uint8_t> input(kVxlanBytes);
  vxlan_header(input.data(), kVni);
  input.insert(input.end(), data, data + size);
  fuzz::finish_ipv4_header(input.data() + kVxlanBytes, size);
  const size_t skipped = tunnel ? 0 : kVxlanBytes;
  const fuzz::Exact bytes(input.data() + skipped, input.size() - skipped);

  uint64_t answers = 0;
  MemoryHooks hooks;
  hooks.transmit = [&](uint16_t port, const Frame& frame) {
    ++answers;
    FUZZ_CHECK(!tunnel && port == kLocal && frame.vnet == VnetHdr{} && !frame.pieces);
    const fuzz::Exact copy(frame);
    check_answer(action, Frame{copy.bytes(), frame.length, {}}, input.data() + kVxlanBytes);
  };
  hooks.transmit_datagram = [&](uint16_t, const uint8_t destination[16], uint32_t, uint8_t, const iovec payload[2]) {
    ++answers;
    FUZZ_CHECK(tunnel && destination[15] == 9);
    std::vector<uint8_t> whole;
    for (int i = 0; i < 2; ++i) {
      const auto* part = static_cast<const uint8_t*>(payload[i].iov_base);
      whole.insert(whole.end(), part, part + payload[i].iov_len);
    }
    Frame inner = {whole.data(), static_cast<uint32_t>(whole.size()), {}};
    uint32_t vni;
    FUZZ_CHECK(vxlan_decap(&inner, &vni) && vni == kVni);
    check_answer(action, inner, input.data() + kVxlanBytes);
  };
  Datapath datapath(4, {}, 1, 0, hooks);
  for (uint16_t number : {kLocal, kTunnel}) {
    auto port = std::make_unique<Port>();
    port->number = number;
    if (number == kTunnel) port->kind = PortKind::memory_vxlan;
    datapath.add_port(std::move(port));
  }
  datapath.flow_put(1, Words{}, Words{}, &action, 1);

  const uint16_t from = tunnel ? kTunnel : kLocal;
  Frame frame = {bytes.bytes(), static_cast<uint32_t>(input.size() - skipped), tunnel ? VnetHdr{} : vnet};
  UnderlaySource source = {};
  source.address[15] = 9;
  const size_t arrivals =
      tunnel ? datapath.receive_datagrams(from, &source, &frame, 1) : datapath.receive(from, &frame, 1);
  for (size_t i = 0; i < arrivals; ++i) datapath.forward(from, i);

  const Counters& counters = datapath.counters();
  FUZZ_CHECK(answers == counters.tx && answers == counters.originated);
  // One with too many segments goes on as two.
  FUZZ_CHECK(answers <= counters.drops[static_cast<size_t>(kRefused)] && answers <= 1 + counters.segments);
  fuzz::check_conservation(&datapath);
  return 0;
}
