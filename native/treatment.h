// What a hook has set for a connection: a mark, the DSCP of its packets, and a meter that limits them. It concerns packets of the
// original direction; replies are left alone. src/flow/treatment.ts is the same in JavaScript.
#pragma once

#include <cstdint>
#include <type_traits>

namespace weft {

// The name of a meter (meters.h): who is limited together, and to what.
struct MeterName {
  uint32_t id;       // 0: nobody is limited
  uint32_t kbits;    // 1000 bits a second; 0: as many as there are
  uint32_t packets;  // a second; 0: as many as there are
};

struct Treatment {
  uint16_t mark;  // 0: none
  uint8_t dscp;   // kSetsDscp and the DSCP; 0: it stays as it is
  uint8_t zero;
  MeterName meter;

  static constexpr uint8_t kSetsDscp = 0x80;

  explicit operator bool() const { return mark || dscp || meter.id; }
};
static_assert(sizeof(Treatment) == 16 && std::is_trivial_v<Treatment>);

}  // namespace weft
