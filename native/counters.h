// The counters of a datapath. Each frame is counted once where it comes in and once where it ends, so
// that at any moment
//   rx + originated + copies + segments = tx + consumed + coalesced + Σ drops + held.
// A drop is counted at the frame's input port, wherever it happened.
#pragma once

#include <cstdint>

#include "reason.h"

namespace weft {

struct PortCounters {
  uint64_t rx_frames = 0;
  uint64_t rx_bytes = 0;
  uint64_t tx_frames = 0;
  uint64_t tx_bytes = 0;
  uint64_t unanswered = 0;  // refused frames, because the port's rate of answers was used up
  uint64_t drops[kReasons] = {};
};

struct Counters {
  uint64_t rx = 0;
  uint64_t originated = 0;
  uint64_t copies = 0;
  uint64_t segments = 0;
  uint64_t tx = 0;
  uint64_t consumed = 0;
  uint64_t coalesced = 0;
  uint64_t upcalls = 0;
  uint64_t unanswered = 0;
  uint64_t drops[kReasons] = {};
};

// Does the law of conservation hold, with `held` frames waiting?
inline bool is_conserved(const Counters& counters, uint64_t held) {
  uint64_t drops = 0;
  for (uint64_t count : counters.drops) drops += count;
  return counters.rx + counters.originated + counters.copies + counters.segments ==
         counters.tx + counters.consumed + counters.coalesced + drops + held;
}

}  // namespace weft
