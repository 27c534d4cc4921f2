// A hash index over records that live elsewhere, in numbered slots: open addressing with linear
// probing, and deletion by moving entries back. Beside each slot number it keeps 32 bits of hash, so a
// probe looks at a record only if it is most likely the right one, and resizing looks at none. It
// takes 8 bytes for each place, and between an eighth and three quarters of the places are used.
//
// Resizing proceeds by a few places with each insert and erase, since moving a million entries at once
// would stop the datapath for many milliseconds. Meanwhile there are two rings of places, and the
// place where the probe for an entry begins (its home) says which of the two it is in. The old ring
// is emptied from `start_` on, `moved_` places so far, always up to a free place, so that no probe
// that began before that point goes beyond it. Entries that wrap around its end fill places that were
// emptied, and more is emptied than they fill. So a search goes through one ring only.
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "zeroed_array.h"

namespace weft {

// One step of a keyed 64-bit hash: the folded product spreads every input bit.
inline uint64_t hash_mix(uint64_t hash, uint64_t word) {
  const auto product = static_cast<unsigned __int128>(hash ^ word ^ 0x9e3779b97f4a7c15u) * 0xd6e8feb86659fd93u;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

class SlotIndex {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  size_t size() const { return size_; }

  // The slot with `hash` for which `matches(slot)` is true, or kNone.
  template <typename Matches>
  uint32_t find(uint32_t hash, Matches matches) const {
    if (size_ == 0) return kNone;
    const Ring& ring = ring_of(hash);
    for (size_t at = ring.home(hash);; at = ring.next(at)) {
      const Place& place = ring[at];
      if (!place.taken) return kNone;
      if (place.hash == hash && matches(place.taken - 1)) return place.taken - 1;
    }
  }

  // Prefetches the place where a search for `hash` begins.
  void prefetch(uint32_t hash) const {
    if (size_ == 0) return;
    const Ring& ring = ring_of(hash);
    __builtin_prefetch(&ring[ring.home(hash)]);
  }

  // The slot must not be in the index.
  void insert(uint32_t hash, uint32_t slot) {
    if (old_.size() == 0) old_ = Ring(kFirstPlaces);
    if (!resizing() && (size_ + 1) * 4 > old_.size() * 3) resize(old_.size() * 2);
    (in_new(hash) ? new_ : old_).put({hash, slot + 1});
    ++size_;
    move_some();
  }

  // The slot must be in the index, with this hash.
  void erase(uint32_t hash, uint32_t slot) {
    (in_new(hash) ? new_ : old_).erase(hash, slot);
    --size_;
    if (!resizing() && old_.size() > kFirstPlaces && size_ * 8 < old_.size()) resize(old_.size() / 2);
    move_some();
  }

 private:
  static constexpr size_t kFirstPlaces = 512;
  // With each insert, so that the old ring, three quarters full at first, never gets full.
  static constexpr size_t kMovedAtOnce = 16;

  struct Place {
    uint32_t hash;
    uint32_t taken;  // slot + 1; 0 if the place is free
  };

  struct Ring : ZeroedArray<Place> {
    using ZeroedArray<Place>::ZeroedArray;
    size_t mask() const { return size() - 1; }
    size_t home(uint32_t hash) const { return hash & mask(); }
    size_t next(size_t at) const { return (at + 1) & mask(); }

    size_t free_from(size_t at) const {
      while ((*this)[at].taken) at = next(at);
      return at;
    }
    void put(Place place) { (*this)[free_from(home(place.hash))] = place; }
    void erase(uint32_t hash, uint32_t slot) {
      size_t hole = home(hash);
      while ((*this)[hole].taken != slot + 1) hole = next(hole);
      for (size_t at = next(hole); (*this)[at].taken; at = next(at)) {
        // An entry may move back unless its probe begins behind the hole.
        if (((at - home((*this)[at].hash)) & mask()) < ((at - hole) & mask())) continue;
        (*this)[hole] = (*this)[at];
        hole = at;
      }
      (*this)[hole] = {};
    }
  };

  bool resizing() const { return new_.size() != 0; }
  // How far it is behind `start_`.
  size_t distance(size_t at) const { return (at - start_) & old_.mask(); }
  bool in_new(uint32_t hash) const { return resizing() && distance(old_.home(hash)) < moved_; }
  const Ring& ring_of(uint32_t hash) const { return in_new(hash) ? new_ : old_; }

  void resize(size_t places) {
    new_ = Ring(places);
    start_ = old_.free_from(0);
    moved_ = 0;
    move_some();
  }

  void move_some() {
    if (!resizing()) return;
    for (size_t passed = 0;; ++passed, ++moved_) {
      Place& place = old_[(start_ + moved_) & old_.mask()];
      if (place.taken) {
        new_.put(std::exchange(place, Place{}));
      } else if (moved_ >= old_.size()) {  // or more: entries that wrapped around the end
        old_ = std::exchange(new_, Ring());
        return;
      } else if (passed >= kMovedAtOnce) {
        return;
      }
    }
  }

  Ring old_;
  Ring new_;  // empty unless the index is being resized
  size_t start_ = 0;
  size_t moved_ = 0;
  size_t size_ = 0;
};

}  // namespace weft
