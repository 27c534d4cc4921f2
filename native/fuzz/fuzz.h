// What the fuzz targets share.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#define FUZZ_CHECK(condition) \
  do {                        \
    if (!(condition)) abort(); \
  } while (0)

namespace fuzz {

// A copy in memory of just its size, behind `headroom` bytes.
class Exact {
 public:
  Exact(const uint8_t* data, size_t size, size_t headroom = 0)
      : storage_(new uint8_t[headroom + size]), headroom_(headroom) {
    if (size) memcpy(storage_.get() + headroom, data, size);
  }
  uint8_t* bytes() const { return storage_.get() + headroom_; }

 private:
  std::unique_ptr<uint8_t[]> storage_;
  size_t headroom_;
};

}  // namespace fuzz
