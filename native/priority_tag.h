// A priority tag, that is, a VLAN tag (TPID 0x8100) with VLAN ID 0, gives a priority and no VLAN,
// so the frame counts as untagged (IEEE 802.1Q §6.9.1). The tag is removed where a frame comes in,
// so nothing later needs to know about such tags. The priority is not kept.
// src/datapath/reference/priority-tag.ts is the plain version.
#pragma once

#include <cstdint>
#include <cstring>

#include "frame.h"

namespace weft {

// Moves the addresses inside the burst's own buffer. Offsets in the vnet_hdr are adjusted; those
// that pointed into the tag wrap around, and are refused because they are outside the frame.
inline void untag_priority(Frame* frame) {
  constexpr uint32_t kTagBytes = 4;
  const uint8_t* at = frame->data + 12;
  if (frame->length < 14 + kTagBytes || at[0] != 0x81 || at[1] != 0x00 || (at[2] & 0x0f) || at[3]) return;
  memmove(frame->data + kTagBytes, frame->data, 12);
  frame->data += kTagBytes;
  frame->length -= kTagBytes;
  frame->vnet.csum_start = static_cast<uint16_t>(frame->vnet.csum_start - kTagBytes);
}

}  // namespace weft
