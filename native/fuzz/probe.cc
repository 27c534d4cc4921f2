// Any bytes as probes of a peer, some of them with a right HMAC: what is refused changes nothing, what is taken
// leaves sensible numbers, and what is sent is a probe. Each record is a byte that says what is made right, a byte of
// time, a byte of length, and the probe from its version on.
#include <vector>

#include "../liveness.h"
#include "fuzz.h"

using namespace weft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const uint8_t local[16] = {1}, peer[16] = {2};
  PeerKey one = {{2}, true, {7}};
  const Hmac key(one.key);
  LivenessSettings settings;
  settings.session = 0x0102030405060708;
  settings.peers = {one};
  settings.vnis = {1, 2, 0xfffffe};
  Liveness liveness;
  double now = 1000;
  liveness.open(local, now);
  liveness.configure(settings, now);

  while (size >= 3) {
    const uint8_t mode = data[0];
    now += data[1] * 4;
    const size_t bytes = std::min<size_t>(data[2] * 2u, size - 3);
    std::vector<uint8_t> body(kEthernetBytes + bytes + ((mode & 1) ? kDigestBytes : 0));
    store16(body.data() + 12, (mode & 2) ? kProbeEtherType : load16(data + 1));
    if (bytes) memcpy(body.data() + kEthernetBytes, data + 3, bytes);
    uint8_t* probe = body.data() + kEthernetBytes;
    if ((mode & 4) && bytes >= kProbeFixedBytes) {
      memcpy(probe + 16, peer, 16);
      memcpy(probe + 32, local, 16);
    }
    if ((mode & 8) && bytes >= kProbeFixedBytes) store64(probe + 48, settings.session);
    if (mode & 1) {
      const Digest digest = key.of(probe, bytes);
      memcpy(probe + bytes, digest.data(), digest.size());
    }
    const fuzz::Exact exact(body.data(), body.size());
    const double heard = liveness.peers(now)[0].heard_ms;
    const Reason refused = liveness.receive((mode & 16) ? local : peer, exact.bytes(), static_cast<uint32_t>(body.size()), now);
    const PeerReport after = liveness.peers(now)[0];
    FUZZ_CHECK(refused == kNoDrop || after.heard_ms == heard);
    FUZZ_CHECK(refused != kNoDrop || ((mode & 1) && !(mode & 16) && after.heard_ms == now));
    FUZZ_CHECK(after.in_lost <= after.in_of && after.in_of <= 64 && after.out_lost <= after.out_of && after.out_of <= 64);
    FUZZ_CHECK(after.vnis.size() <= kProbeVnis && after.rtt_ms <= now);
    FUZZ_CHECK(liveness.strangers().size() <= Liveness::kMostStrangers);
    liveness.run(
        now,
        [&](const uint8_t to[16], uint32_t, const uint8_t* frame, uint32_t length) {
          Probe sent;
          FUZZ_CHECK(memcmp(to, peer, 16) == 0 && length <= kMostProbeBytes);
          FUZZ_CHECK(parse_probe(frame, length, &sent) && is_authentic(frame, length, key));
          FUZZ_CHECK(memcmp(sent.sender, local, 16) == 0 && sent.vni_count == 3 && sent.vnis[2] == 0xfffffe);
        },
        [](double until) { return until; });
    FUZZ_CHECK(liveness.due_ms() > now);
    data += 3 + bytes;
    size -= 3 + bytes;
  }
  return 0;
}
