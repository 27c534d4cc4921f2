// Merges consecutive TCP segments of a flow, and UDP datagrams of one size, into a superframe: one
// lookup and one write instead of many. Frames are merged only if segmenting the result would give
// back exactly the same frames. src/datapath/reference/coalesce.ts is the plain version.
//
// A frame is *plain* if it is TCP or UDP over IPv4 or IPv6, without VLAN tag, IP options, extension
// headers and fragments. A plain frame may be merged if it has payload, a correct checksum (known to
// be, or summed here, since merging must not repair a broken one) and, for TCP, no flag except ACK
// and PSH. It continues the open superframe of its flow if nothing differs except what segmenting
// restores: TCP sequence number and PSH, and IPv4 identification (each one greater by one, or any
// value with DF: RFC 6864 §4.1). A shorter frame, or PSH, completes the superframe.
//
// No flow is reordered: a frame that cannot be merged first sends off the open superframe of its
// flow, or all open ones if its flow cannot be determined.
//
// A Coalescer belongs to one thread and works on one burst at a time: `add` each frame, `finish`,
// then take `arrivals`. Payloads stay in the burst.
#pragma once

#include <deque>
#include <vector>

#include "extract.h"
#include "frame.h"
#include "key.h"

namespace weft {

// A part of a burst that is looked up at once: a frame that came in, or several merged into one.
struct Arrival {
  Frame frame;
  Words key;
  uint32_t frames;  // how many frames came in
  uint32_t bytes;   // their bytes together
};

class Coalescer {
 public:
  // The most superframes that are open at a time.
  static constexpr size_t kOpen = 8;

  Coalescer() { open_.reserve(kOpen); }

  // Begins a burst.
  void begin() {
    arrivals_.clear();
    pieces_used_ = 0;
  }
  // The next frame, with the key that was extracted from it. `alone`: the burst has no other frame.
  void add(const Frame& frame, const Words& key, const Layout& layout, bool alone);
  // There are no more frames. The result is valid until the next burst.
  std::vector<Arrival>& finish();

 private:
  // The TCP and UDP fields of a plain frame.
  struct Plain {
    bool v4;
    bool tcp;
    uint32_t l4;
    uint32_t payload;       // offset
    uint32_t payload_bytes;
  };
  struct Open {
    Frame first;
    Words key;
    Plain plain;
    uint32_t count;
    uint32_t bytes;        // bytes that were received
    uint32_t payload_bytes;
    uint16_t last_id;
    bool push;
    Pieces* pieces;
  };

  static bool is_plain(const Frame& frame, const Key& key, const Layout& layout, Plain* plain);
  static bool may_merge(const Frame& frame, const Plain& plain);
  static bool continues(const Open& open, const Frame& frame, const Words& key, const Plain& plain);
  void append(Open* open, const Frame& frame, const Plain& plain);
  void emit(const Frame& frame, const Words& key);
  void emit(size_t open);
  Pieces* take_pieces();

  std::vector<Open> open_;  // in the order in which they were opened
  std::vector<Arrival> arrivals_;
  std::deque<Pieces> pieces_;
  size_t pieces_used_ = 0;
};

}  // namespace weft
