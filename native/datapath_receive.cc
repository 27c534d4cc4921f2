// The beginning of a burst's path: 1 to 4 of datapath.h.
#include "checksum.h"
#include "datapath.h"
#include "ecn.h"
#include "offload.h"
#include "priority_tag.h"
#include "prober.h"
#include "rewrite.h"
#include "vxlan.h"

namespace weft {
namespace {

Key key_of_port(uint16_t number) {
  Key key = {};
  store16(key.in_port, number);
  return key;
}

}  // namespace

// 1. Receive

size_t Datapath::receive(uint16_t number, const Frame* frames, size_t count) {
  coalescer_.begin();
  for (size_t i = 0; i < count; ++i) {
    Key key = key_of_port(number);
    arrive(number, frames[i], &key, 0, count == 1);
  }
  return look_up(number);
}

// 2. Decapsulate

size_t Datapath::receive_datagrams(uint16_t number, const UnderlaySource* sources, const Frame* payloads, size_t count) {
  coalescer_.begin();
  const uint8_t* local = port(number)->local;
  for (size_t i = 0; i < count; ++i) {
    Frame frame = {payloads[i].data, payloads[i].length, {}};
    uint32_t vni;
    if (!vxlan_decap(&frame, &vni)) {
      received(number, 1, frame.length);
      drop(number, Reason::vxlan_malformed);
      continue;
    }
    if (memcmp(sources[i].address, local, 16) == 0) {
      received(number, 1, frame.length);
      drop(number, Reason::vxlan_own_address);
      continue;
    }
    if (vni == kProbeVni) {
      probed(number, sources[i], frame);
      continue;
    }
    Key key = key_of_port(number);
    store32(key.tun_vni, vni);
    memcpy(key.tun_src, sources[i].address, 16);
    arrive(number, frame, &key, sources[i].tos, count == 1);
  }
  return look_up(number);
}

void Datapath::probed(uint16_t number, const UnderlaySource& source, const Frame& frame) {
  received(number, 1, frame.length);
  const Reason refused =
      prober_ ? prober_->receive(source.address, frame.data, frame.length) : Reason::probe_unknown_peer;
  if (refused != kNoDrop) return drop(number, refused);
  ++counters_.consumed;
}

// 3. Extract, 4. coalesce

void Datapath::arrive(uint16_t number, Frame frame, Key* key, uint8_t outer_tos, bool alone) {
  if (mirror_.wants(number)) mirror_.copy(number, Direction::rx, now_ms_, frame);
  untag_priority(&frame);
  Layout layout;
  if (const Reason bad = extract(frame.data, frame.length, key, &layout); bad != kNoDrop) {
    received(number, 1, frame.length);
    return drop(number, bad);
  }
  frame.length = layout.length;
  if (number == tunnel_) {
    if (!ecn_decap(frame, key, outer_tos)) {
      received(number, 1, frame.length);
      return drop(number, Reason::ecn_ce_not_ect);
    }
    mark_unfinished(&frame, *key, layout.l4);
  } else if (!offload_check(&frame, *key, layout.l4)) {
    received(number, 1, frame.length);
    return drop(number, Reason::bad_vnet_hdr);
  } else if (frame.vnet.gso_type != kGsoNone && is_ipv4(*key) && !has_right_ipv4_header(l3_of(frame, *key))) {
    // It is cut sooner or later, and each segment then gets a correct header checksum.
    received(number, 1, frame.length);
    return drop(number, Reason::ipv4_checksum);
  }
  coalescer_.add(frame, Words::of(*key), layout, alone);
}

}  // namespace weft
