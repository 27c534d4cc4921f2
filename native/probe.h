// A probe: what one VTEP tells another through the tunnel to show that it lives, and what it has heard
// of the other. src/wire/probe.ts is the same in TypeScript.
//
// It is a VXLAN frame with a VNI of weft's own, which no network has, and an EtherType for experiments
// (IEEE 802, local experimental 1). Numbers are big-endian. Behind the Ethernet header:
//
//    0  1  version (1)
//    1  1  flags: 1: the sender hears the receiver
//    2  2  interval: nothing is heard of the sender for at most the receiver's multiplier times so many milliseconds
//    4  4  sequence number, from 1
//    8  8  session: random, another one whenever the sender starts; not 0
//   16 16  address of the sender, IPv4-mapped or IPv6
//   32 16  address of the receiver
//   48  8  the receiver's session, as the sender has heard it; 0: none
//   56  4  the receiver's highest sequence number that the sender has heard
//   60  4  how long ago that was, in microseconds
//   64  1  of the receiver's last probes, so many were lost
//   65  1  so many of the last probes are counted there, 64 at most
//   66  2  VNIs of the sender's networks: how many follow, or 0xffff for too many to tell
//   68  3  each of these, ascending
//    …  32 HMAC-SHA256 of everything from the version on
//
// Parsing bounds everything; authenticity is checked separately.
#pragma once

#include <cstring>

#include "frame.h"
#include "key.h"
#include "sha256.h"
#include "vxlan.h"

namespace weft {

inline constexpr uint32_t kProbeVni = 0xffffff;
inline constexpr uint32_t kProbeEtherType = 0x88b5;
inline constexpr uint8_t kProbeVersion = 1;
inline constexpr uint8_t kProbeHears = 1;
// A probe fits into any underlay that carries IPv6.
inline constexpr size_t kProbeVnis = 128;
inline constexpr uint32_t kTooManyVnis = 0xffff;
inline constexpr size_t kProbeFixedBytes = 68;
inline constexpr size_t kMostProbeBytes = kEthernetBytes + kProbeFixedBytes + 3 * kProbeVnis + kDigestBytes;
// Of locally administered MACs, those that hosts have; nobody has this one.
inline constexpr uint8_t kProbeMac[6] = {0x02, 0x77, 0x65, 0, 0, 0};

inline uint64_t load64(const uint8_t* from) { return uint64_t{load32(from)} << 32 | load32(from + 4); }
inline void store64(uint8_t* to, uint64_t value) {
  store32(to, static_cast<uint32_t>(value >> 32));
  store32(to + 4, static_cast<uint32_t>(value));
}

struct Probe {
  bool hears = false;
  uint16_t interval_ms = 0;
  uint32_t seq = 0;
  uint64_t session = 0;
  uint8_t sender[16] = {};
  uint8_t receiver[16] = {};
  uint64_t your_session = 0;
  uint32_t your_seq = 0;
  uint32_t held_us = 0;
  uint8_t lost = 0, of = 0;
  uint32_t vni_count = 0;  // or kTooManyVnis
  uint32_t vnis[kProbeVnis] = {};

  size_t listed() const { return vni_count == kTooManyVnis ? 0 : vni_count; }
};

// Writes the whole inner frame; returns its length, at most kMostProbeBytes.
inline uint32_t write_probe(const Probe& probe, const Hmac& key, uint8_t* frame) {
  memcpy(frame, kProbeMac, 6);
  memcpy(frame + 6, kProbeMac, 6);
  store16(frame + 12, kProbeEtherType);
  uint8_t* to = frame + kEthernetBytes;
  to[0] = kProbeVersion;
  to[1] = probe.hears ? kProbeHears : 0;
  store16(to + 2, probe.interval_ms);
  store32(to + 4, probe.seq);
  store64(to + 8, probe.session);
  memcpy(to + 16, probe.sender, 16);
  memcpy(to + 32, probe.receiver, 16);
  store64(to + 48, probe.your_session);
  store32(to + 56, probe.your_seq);
  store32(to + 60, probe.held_us);
  to[64] = probe.lost;
  to[65] = probe.of;
  store16(to + 66, probe.vni_count);
  size_t bytes = kProbeFixedBytes;
  for (size_t i = 0; i < probe.listed(); ++i, bytes += 3) {
    to[bytes] = static_cast<uint8_t>(probe.vnis[i] >> 16);
    store16(to + bytes + 1, probe.vnis[i] & 0xffff);
  }
  const Digest digest = key.of(to, bytes);
  memcpy(to + bytes, digest.data(), digest.size());
  return static_cast<uint32_t>(kEthernetBytes + bytes + kDigestBytes);
}

// Reads the inner frame. False if it is not a probe of this version, as long as it says, with numbers that
// can be.
inline bool parse_probe(const uint8_t* frame, uint32_t length, Probe* probe) {
  if (length < kEthernetBytes + kProbeFixedBytes + kDigestBytes || load16(frame + 12) != kProbeEtherType) return false;
  const uint8_t* from = frame + kEthernetBytes;
  if (from[0] != kProbeVersion) return false;
  probe->hears = from[1] & kProbeHears;
  probe->interval_ms = static_cast<uint16_t>(load16(from + 2));
  probe->seq = load32(from + 4);
  probe->session = load64(from + 8);
  memcpy(probe->sender, from + 16, 16);
  memcpy(probe->receiver, from + 32, 16);
  probe->your_session = load64(from + 48);
  probe->your_seq = load32(from + 56);
  probe->held_us = load32(from + 60);
  probe->lost = from[64];
  probe->of = from[65];
  probe->vni_count = load16(from + 66);
  if (probe->vni_count > kProbeVnis && probe->vni_count != kTooManyVnis) return false;
  if (length != kEthernetBytes + kProbeFixedBytes + 3 * probe->listed() + kDigestBytes) return false;
  for (size_t i = 0; i < probe->listed(); ++i) {
    const uint8_t* at = from + kProbeFixedBytes + 3 * i;
    probe->vnis[i] = static_cast<uint32_t>(at[0]) << 16 | load16(at + 1);
  }
  return probe->seq != 0 && probe->session != 0 && probe->interval_ms != 0 && probe->lost <= probe->of && probe->of <= 64;
}

// Was a frame that `parse_probe` accepts made by somebody with this key?
inline bool is_authentic(const uint8_t* frame, uint32_t length, const Hmac& key) {
  const size_t bytes = length - kEthernetBytes - kDigestBytes;
  const Digest digest = key.of(frame + kEthernetBytes, bytes);
  return is_same(digest.data(), frame + kEthernetBytes + bytes, kDigestBytes);
}

}  // namespace weft
