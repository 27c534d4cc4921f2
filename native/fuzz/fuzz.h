// Shared by the fuzz targets.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "../checksum.h"
#include "../datapath.h"
#include "../frame.h"

#define FUZZ_CHECK(condition) \
  do {                        \
    if (!(condition)) abort(); \
  } while (0)

namespace fuzz {

// A copy in memory of exactly its size.
class Exact {
 public:
  Exact(const uint8_t* data, size_t size) : storage_(new uint8_t[size]) {
    if (size) memcpy(storage_.get(), data, size);
  }
  explicit Exact(const weft::Frame& frame) : storage_(new uint8_t[frame.length]) {
    frame.copy(storage_.get(), frame.length);
  }
  uint8_t* bytes() const { return storage_.get(); }

 private:
  std::unique_ptr<uint8_t[]> storage_;
};

// Every frame that came in or was made has ended, or is held (counters.h); once the ports are gone, none is held.
inline void check_conservation(weft::Datapath* datapath) {
  FUZZ_CHECK(weft::is_conserved(datapath->counters(), datapath->held()));
  for (uint16_t port : datapath->port_numbers()) datapath->take_port(port);
  FUZZ_CHECK(datapath->held() == 0);
  FUZZ_CHECK(weft::is_conserved(datapath->counters(), 0));
}

// Gives frames that may be IPv4 without options a right header checksum, which random bytes hardly ever have.
inline void finish_ipv4_header(uint8_t* frame, size_t length) {
  if (length < 34) return;
  weft::store16(frame + 24, 0);
  weft::OnesSum sum;
  sum.add(frame + 14, 20);
  weft::store16(frame + 24, sum.checksum());
}

}  // namespace fuzz
