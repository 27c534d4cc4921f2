// What a received virtio_net_hdr may ask for.
#pragma once

#include "frame.h"

namespace weft {

// Checks the header that came with a frame, which whoever sent the frame
// controls, and clears what means nothing further on. False: it asks for
// offload work (a partial checksum, segmentation) that weft has not offered to
// do. A checksum known to be good (VIRTIO_NET_HDR_F_DATA_VALID) needs none;
// `hdr_len` is only a hint.
inline bool vnet_accept(Frame* frame) {
  constexpr uint8_t kDataValid = 2;
  if ((frame->vnet.flags & ~kDataValid) != 0 || frame->vnet.gso_type != 0) return false;
  frame->vnet = VnetHdr{};
  return true;
}

}  // namespace weft
