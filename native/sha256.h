// SHA-256 (FIPS 180-4) and HMAC with it (RFC 2104, RFC 4231), for a few small messages a second: plain and
// without tables of the processor's own instructions, so that the core needs no library.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace weft {

inline constexpr size_t kDigestBytes = 32;
using Digest = std::array<uint8_t, kDigestBytes>;

class Sha256 {
 public:
  void add(const uint8_t* data, size_t size) {
    bytes_ += size;
    while (size > 0) {
      const size_t some = std::min(size, sizeof block_ - used_);
      memcpy(block_ + used_, data, some);
      used_ += some;
      data += some;
      size -= some;
      if (used_ == sizeof block_) compress();
    }
  }

  Digest finish() {
    const uint64_t bits = bytes_ * 8;
    constexpr uint8_t kOne = 0x80, kZero = 0;
    add(&kOne, 1);
    while (used_ != sizeof block_ - 8) add(&kZero, 1);
    uint8_t length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
    add(length, sizeof length);
    Digest digest;
    for (size_t i = 0; i < kDigestBytes; ++i) digest[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
    return digest;
  }

 private:
  static constexpr uint32_t kRound[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
      0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
      0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
      0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

  static uint32_t right(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

  void compress() {
    uint32_t w[64];
    for (int i = 0; i < 16; ++i) {
      w[i] = 0;
      for (int j = 0; j < 4; ++j) w[i] = w[i] << 8 | block_[4 * i + j];
    }
    for (int i = 16; i < 64; ++i) {
      const uint32_t a = right(w[i - 15], 7) ^ right(w[i - 15], 18) ^ w[i - 15] >> 3;
      const uint32_t b = right(w[i - 2], 17) ^ right(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    uint32_t s[8];
    memcpy(s, state_, sizeof s);
    for (int i = 0; i < 64; ++i) {
      const uint32_t e = right(s[4], 6) ^ right(s[4], 11) ^ right(s[4], 25);
      const uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
      const uint32_t one = s[7] + e + choice + kRound[i] + w[i];
      const uint32_t a = right(s[0], 2) ^ right(s[0], 13) ^ right(s[0], 22);
      const uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
      memmove(s + 1, s, 7 * sizeof *s);
      s[4] += one;
      s[0] = one + a + majority;
    }
    for (int i = 0; i < 8; ++i) state_[i] += s[i];
    used_ = 0;
  }

  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t block_[64];
  size_t used_ = 0;
  uint64_t bytes_ = 0;
};

// HMAC-SHA256 with a key of 32 bytes; the blocks of the key are computed once.
class Hmac {
 public:
  static constexpr size_t kKeyBytes = 32;

  explicit Hmac(const uint8_t key[kKeyBytes]) {
    begin(key, 0x36, &inner_);
    begin(key, 0x5c, &outer_);
  }

  Digest of(const uint8_t* data, size_t size) const {
    Sha256 inner = inner_;
    inner.add(data, size);
    const Digest digest = inner.finish();
    Sha256 outer = outer_;
    outer.add(digest.data(), digest.size());
    return outer.finish();
  }

 private:
  static void begin(const uint8_t* key, uint8_t pad, Sha256* to) {
    uint8_t block[64];
    for (size_t i = 0; i < sizeof block; ++i) block[i] = static_cast<uint8_t>((i < kKeyBytes ? key[i] : 0) ^ pad);
    to->add(block, sizeof block);
  }

  Sha256 inner_, outer_;
};

// How long it takes says nothing about where they differ.
inline bool is_same(const uint8_t* a, const uint8_t* b, size_t size) {
  uint8_t difference = 0;
  for (size_t i = 0; i < size; ++i) difference |= static_cast<uint8_t>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace weft
