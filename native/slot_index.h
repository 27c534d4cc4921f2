// A hash index over records that live elsewhere, in numbered slots: open
// addressing with linear probing, deletion by moving back. It keeps 32 bits of
// hash beside each slot number, so a probe touches a record only when it is
// most likely the right one, and growing touches none. 8 bytes a place, at most
// three quarters full.
//
// Growing rehashes all at once. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace weft {

// One step of a keyed 64-bit hash: the folded product spreads each input bit.
inline uint64_t hash_mix(uint64_t hash, uint64_t word) {
  const auto product = static_cast<unsigned __int128>(hash ^ word ^ 0x9e3779b97f4a7c15u) * 0xd6e8feb86659fd93u;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

class SlotIndex {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  size_t size() const { return size_; }

  // The slot with `hash` for which `matches(slot)` holds, or kNone.
  template <typename Matches>
  uint32_t find(uint32_t hash, Matches matches) const {
    if (size_ == 0) return kNone;
    for (size_t at = hash & mask();; at = (at + 1) & mask()) {
      const Place& place = places_[at];
      if (place.slot == kNone) return kNone;
      if (place.hash == hash && matches(place.slot)) return place.slot;
    }
  }

  // The slot is not in it.
  void insert(uint32_t hash, uint32_t slot) {
    if ((size_ + 1) * 4 > places_.size() * 3) grow();
    put(hash, slot);
    ++size_;
  }

  // The slot is in it, with this hash.
  void erase(uint32_t hash, uint32_t slot) {
    size_t hole = hash & mask();
    while (places_[hole].slot != slot) hole = (hole + 1) & mask();
    for (size_t at = (hole + 1) & mask(); places_[at].slot != kNone; at = (at + 1) & mask()) {
      // May move back unless its probe begins behind the hole.
      const size_t home = places_[at].hash & mask();
      if (((at - home) & mask()) < ((at - hole) & mask())) continue;
      places_[hole] = places_[at];
      hole = at;
    }
    places_[hole].slot = kNone;
    --size_;
  }

 private:
  struct Place {
    uint32_t hash = 0;
    uint32_t slot = kNone;
  };

  size_t mask() const { return places_.size() - 1; }

  void put(uint32_t hash, uint32_t slot) {
    size_t at = hash & mask();
    while (places_[at].slot != kNone) at = (at + 1) & mask();
    places_[at] = Place{hash, slot};
  }

  void grow() {
    std::vector<Place> old = std::exchange(places_, std::vector<Place>(places_.empty() ? 8 : places_.size() * 2));
    for (const Place& place : old) {
      if (place.slot != kNone) put(place.hash, place.slot);
    }
  }

  std::vector<Place> places_;
  size_t size_ = 0;
};

}  // namespace weft
