// Large arrays with random access: zeroed memory straight from the kernel. Creating one writes
// nothing, so a large one costs no time, and only pages that are touched take memory.
//
// It asks for no huge pages (with transparent_hugepage=always they are used anyway). They make lookups
// among a million flows up to a quarter faster. But the first touch of one stops the datapath's thread,
// for 8 ms in a virtual machine whose host has not backed the memory, and so does collapsing in the
// background: frames would be lost while flows are put.
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
  // `size` > 0. Ends the process if there is no memory, as `new` does here.
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
