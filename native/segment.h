// A frame in the form in which it is sent where nobody completes checksums or segments superframes any
// more: one or more segments, each with headers of its own and a piece of the payload, which is not
// copied. src/datapath/reference/segment.ts does the same.
//
// Each segment gets (RFC 9293 §3.1, RFC 768; the rules of every TSO engine):
//   IPv4   total length, identification + i, header checksum
//   IPv6   payload length
//   TCP    sequence number; FIN and PSH on the last only, CWR on the first only
//   UDP    length
//   both   a finished checksum
// The frame itself is only read, since it may also be sent elsewhere.
#pragma once

#include "checksum.h"
#include "frame.h"
#include "key.h"
#include "offload.h"

namespace weft {

class Segments {
 public:
  // For a frame that passed offload_check, or that the coalescer made.
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
  // Header bytes of each segment; 0 if the frame is sent as it is. Greater than kMaxHeaders only if
  // there is one segment; then at most the length of the frame.
  uint32_t header_bytes() const { return header_bytes_; }
  // Length of each segment except the last, which may be shorter.
  uint32_t segment_bytes() const { return header_bytes_ + size_; }
  uint32_t bytes(uint32_t i) const { return header_bytes_ + payload_bytes(i); }

  // The piece that follows the headers, in the frame's own memory.
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

// Splits a superframe of more than kMaxSegments in two, with half of the segments each. They use
// the memory of the superframe, so the first one must be sent before the second one is made.
class Halves {
 public:
  // For a frame in one piece that passed offload_check.
  explicit Halves(const Frame& frame);
  Frame first();
  // Its headers overwrite the end of the first one's payload.
  Frame second();

 private:
  Frame part(uint8_t* at, uint32_t from, uint32_t payload_bytes, bool is_last);

  Frame frame_;
  uint32_t payload_;
  uint32_t first_segments_;
  uint8_t headers_[kMaxHeaders];  // as they came in
};

}  // namespace weft
