// Puts consecutive TCP segments of a flow, and UDP datagrams of one size, back
// into a superframe: one lookup and one write instead of many. What cutting it
// again would not give back is never merged. src/datapath/reference/coalesce.ts is the
// plain version.
//
// A frame is *plain* when it is TCP or UDP over IPv4 or IPv6, without VLAN tag,
// IP options, extension headers and fragments. A plain frame may be merged when
// it has payload, a good checksum (known, or summed here: merging must not mend
// a broken one) and, for TCP, no flag but ACK and PSH. It continues the open
// superframe of its flow when nothing differs but what cutting restores: TCP
// sequence and PSH, IPv4 identification (each one more, or any with DF: RFC 6864
// §4.1). A shorter one, or PSH, completes it.
//
// No flow is reordered: a frame that cannot be merged first sends off what is
// open of its flow, or all that is open where it has no flow to tell by.
//
// A Coalescer belongs to one thread, and works on one burst at a time: `add`
// each frame, `finish`, then take `arrivals`. Payloads stay in the burst.
#pragma once

#include <deque>
#include <vector>

#include "extract.h"
#include "frame.h"
#include "key.h"

namespace weft {

// What of a burst is looked up: a frame that came in, or several in one.
struct Arrival {
  Frame frame;
  Words key;
  uint32_t frames;  // that came in
  uint32_t bytes;   // of all of these
};

class Coalescer {
 public:
  // Superframes that are open at once.
  static constexpr size_t kOpen = 8;

  Coalescer() { open_.reserve(kOpen); }

  // Begins a burst.
  void begin() {
    arrivals_.clear();
    pieces_used_ = 0;
  }
  // The next frame, with the key that it was extracted to. With `alone` the burst
  // has no other.
  void add(const Frame& frame, const Words& key, const Layout& layout, bool alone);
  // No frame more. Valid until the next burst.
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
    uint32_t bytes;        // received
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
