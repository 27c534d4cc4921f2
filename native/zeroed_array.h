// Large arrays in which access is random: zeroed memory straight from the
// kernel. Nothing is written when one is made, so a large one costs no time and
// only what is touched takes memory.
//
// Of huge pages where the kernel gives them: over a hundred megabytes of
// ordinary pages nearly every access at random misses the TLB as well as the
// cache. What may stay nearly empty keeps its beginning on ordinary pages
// (`small_bytes`), so that a few elements do not take 2 MB.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <type_traits>
#include <utility>

namespace weft {

inline constexpr size_t kHugePage = 2 << 20;

// `T` is plain data, or its owner calls constructors and destructors.
template <typename T>
class ZeroedArray {
 public:
  ZeroedArray() = default;
  // `size` > 0. Ends the process when there is no memory, as `new` does here.
  explicit ZeroedArray(size_t size, size_t small_bytes = 0) : size_(size) {
    static_assert(alignof(T) <= kHugePage);
    if (bytes() < kHugePage) {
      at_ = map(bytes());
      return;
    }
    // As much as a huge page too many; what lies before and behind the alignment goes back.
    uint8_t* const begin = map(bytes() + kHugePage);
    const size_t before = -reinterpret_cast<uintptr_t>(begin) % kHugePage;
    if (before) munmap(begin, before);
    munmap(begin + before + bytes(), kHugePage - before);
    at_ = begin + before;
    if (small_bytes < bytes()) madvise(at_ + small_bytes, bytes() - small_bytes, MADV_HUGEPAGE);
  }
  ZeroedArray(ZeroedArray&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  ZeroedArray& operator=(ZeroedArray other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~ZeroedArray() {
    if (at_) munmap(at_, bytes());
  }

  size_t size() const { return size_; }
  T& operator[](size_t index) { return reinterpret_cast<T*>(at_)[index]; }
  const T& operator[](size_t index) const { return reinterpret_cast<const T*>(at_)[index]; }

 private:
  static constexpr size_t kPage = 65536;  // a multiple of every kernel's

  size_t bytes() const { return (size_ * sizeof(T) + kPage - 1) / kPage * kPage; }
  static uint8_t* map(size_t bytes) {
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) abort();
    return static_cast<uint8_t*>(at);
  }

  uint8_t* at_ = nullptr;
  size_t size_ = 0;
};

}  // namespace weft
