// Large arrays in which access is random: zeroed memory straight from the
// kernel. Nothing is written when one is made, so a large one costs no time and
// only the pages that are touched take memory.
//
// Of ordinary pages. Huge ones make lookups among a million flows faster by a
// tenth to a quarter, but where the machine is virtual and its memory not backed
// yet, each takes the kernel 8 ms, whether at the first touch or later in the
// background, and the datapath's thread waits for it: frames would be lost.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <utility>

namespace weft {

// `T` is plain data, or its owner calls constructors and destructors.
template <typename T>
class ZeroedArray {
 public:
  ZeroedArray() = default;
  // `size` > 0. Ends the process when there is no memory, as `new` does here.
  explicit ZeroedArray(size_t size) : size_(size) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* const at = mmap(nullptr, size * sizeof(T), PROT_READ | PROT_WRITE, kFlags, -1, 0);
    if (at == MAP_FAILED) abort();
    at_ = static_cast<T*>(at);
  }
  ZeroedArray(ZeroedArray&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  ZeroedArray& operator=(ZeroedArray other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~ZeroedArray() {
    if (at_) munmap(at_, size_ * sizeof(T));
  }

  size_t size() const { return size_; }
  T& operator[](size_t index) { return at_[index]; }
  const T& operator[](size_t index) const { return at_[index]; }

 private:
  T* at_ = nullptr;
  size_t size_ = 0;
};

}  // namespace weft
