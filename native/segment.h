// A frame as what goes out where nobody finishes checksums or cuts superframes
// any more: one or more segments, each with headers of its own and its piece of
// the payload where it lies. src/datapath/reference/segment.ts does the same.
//
// Of each segment (RFC 9293 §3.1, RFC 768; the rules of every TSO engine):
//   IPv4   total length, identification + i, header checksum
//   IPv6   payload length
//   TCP    sequence number; FIN and PSH on the last only, CWR on the first only
//   UDP    length
//   both   a finished checksum
// The frame itself is only read: it may have other ways to go.
#pragma once

#include "checksum.h"
#include "frame.h"
#include "key.h"
#include "offload.h"

namespace weft {

class Segments {
 public:
  // Of a frame that passed offload_check, or was made by the coalescer.
  explicit Segments(const Frame& frame) : frame_(frame) {
    const VnetHdr& vnet = frame.vnet;
    if (vnet.gso_type != kGsoNone) {
      header_bytes_ = vnet.hdr_len;
      payload_ = frame.length - header_bytes_;
      size_ = vnet.gso_size;
      count_ = (payload_ + size_ - 1) / size_;
    } else {
      header_bytes_ = vnet.flags & kNeedsCsum ? vnet.csum_start + vnet.csum_offset + 2u : 0;
      payload_ = size_ = frame.length - header_bytes_;
      count_ = 1;
    }
  }

  uint32_t count() const { return count_; }
  // Of each segment; 0 where the frame goes out as it is. More than kMaxHeaders
  // only when there is one segment: then at most the frame.
  uint32_t header_bytes() const { return header_bytes_; }
  // Of each but the last, which may be shorter.
  uint32_t segment_bytes() const { return header_bytes_ + size_; }
  uint32_t bytes(uint32_t i) const { return header_bytes_ + payload_bytes(i); }

  // The piece that follows the headers: the frame's own memory.
  iovec payload(uint32_t i) const {
    const size_t size = payload_bytes(i);
    if (frame_.pieces && i > 0) return {frame_.pieces->at[i - 1].iov_base, size};
    return {frame_.data + header_bytes_ + size_t{i} * size_, size};
  }

  // Writes the headers of segment `i`: header_bytes() bytes.
  void headers(uint32_t i, uint8_t* to) const;

  // Segment `i` with its headers, in two parts.
  Frame frame(uint32_t i, uint8_t* headers, Pieces* payload_out) const {
    payload_out->count = 1;
    payload_out->at[0] = payload(i);
    return Frame{headers, bytes(i), VnetHdr{}, payload_out, header_bytes_};
  }

 private:
  uint32_t payload_bytes(uint32_t i) const { return i + 1 < count_ ? size_ : payload_ - i * size_; }

  const Frame& frame_;
  uint32_t header_bytes_;
  uint32_t payload_;
  uint32_t size_;
  uint32_t count_;
};

// A superframe of more than kMaxSegments as two, with half of the segments each. They use
// the superframe's own memory, so the first has to be gone when the second is made.
class Halves {
 public:
  // Of a frame in one piece that passed offload_check.
  explicit Halves(const Frame& frame);
  Frame first();
  // Its headers are written over the end of the first one's payload.
  Frame second();

 private:
  Frame part(uint8_t* at, uint32_t from, uint32_t payload_bytes, bool is_last);

  Frame frame_;
  uint32_t payload_;
  uint32_t first_segments_;
  uint8_t headers_[kMaxHeaders];  // as they came in
};

}  // namespace weft
