// The flow key: which headers a frame has, in the layout of src/flow/fields.ts (compared at load).
// All fields hold bytes as on the wire, so all are big-endian. Fields that a frame does not have
// are zero, and there is no padding, so that keys compare and hash as 13 words.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace weft {

struct Key {
  uint8_t in_port[2];
  uint8_t ct_state[2];
  uint8_t tun_vni[4];
  uint8_t tun_src[16];
  uint8_t eth_dst[6];
  uint8_t eth_src[6];
  uint8_t eth_type[2];
  uint8_t vlan_tci[2];
  uint8_t ip_src[16];
  uint8_t ip_dst[16];
  uint8_t ip_proto;
  uint8_t ip_tos;
  uint8_t ip_ttl;
  uint8_t ip_frag;
  uint8_t l4_src[2];
  uint8_t l4_dst[2];
  uint8_t nd_lla[6];
  uint8_t icmp_id[2];
  uint8_t nd_target[16];
};

inline constexpr size_t kKeyBytes = 104;
inline constexpr size_t kKeyWords = kKeyBytes / 8;

#define WEFT_FIELDS(X)                                                                                 \
  X(in_port, 0, 2) X(ct_state, 2, 2) X(tun_vni, 4, 4) X(tun_src, 8, 16) X(eth_dst, 24, 6)              \
  X(eth_src, 30, 6) X(eth_type, 36, 2) X(vlan_tci, 38, 2) X(ip_src, 40, 16) X(ip_dst, 56, 16)          \
  X(ip_proto, 72, 1) X(ip_tos, 73, 1) X(ip_ttl, 74, 1) X(ip_frag, 75, 1) X(l4_src, 76, 2)              \
  X(l4_dst, 78, 2) X(nd_lla, 80, 6) X(icmp_id, 86, 2) X(nd_target, 88, 16)

static_assert(sizeof(Key) == kKeyBytes && alignof(Key) == 1);
#define X(name, at, bytes) static_assert(offsetof(Key, name) == at && sizeof(Key::name) == bytes);
WEFT_FIELDS(X)
#undef X

struct Field {
  const char* name;
  size_t offset;
  size_t size;
};

inline constexpr Field kFields[] = {
#define X(name, at, bytes) {#name, at, bytes},
    WEFT_FIELDS(X)
#undef X
};

// Values of `ip_frag`.
inline constexpr uint8_t kFragNone = 0;
inline constexpr uint8_t kFragFirst = 1;
inline constexpr uint8_t kFragLater = 2;

// Frames of one flow may differ in TOS and TTL, and still none may overtake another. This word of a key has both fields;
// the mask has all others of the word.
inline constexpr size_t kMarksWord = offsetof(Key, ip_tos) / 8;
inline constexpr uint64_t kWithoutMarks = std::bit_cast<uint64_t>(std::array<uint8_t, 8>{0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff});
static_assert(offsetof(Key, ip_tos) % 8 == 1 && offsetof(Key, ip_ttl) % 8 == 2);

// Values of `ct_state`: what a frame has to do with connections. A frame that waits for a decision has none in its key,
// because that may change while it waits.
inline constexpr uint8_t kCtNone = 0;      // it begins a conversation, or is of none
inline constexpr uint8_t kCtOriginal = 1;  // of a connection whose addresses are translated
inline constexpr uint8_t kCtReply = 2;
inline constexpr uint8_t kCtError = 3;  // an ICMP error, in a place that has connections: perhaps about one of them
inline constexpr uint8_t kCtTaken = 4;  // it begins a conversation with the tuple with which a connection goes on
inline constexpr uint8_t kCtKnown = 5;  // of a connection that is only tracked
inline constexpr uint8_t kCtKnownReply = 6;

// A key or a mask as words, for hashing and comparing.
struct Words {
  uint64_t at[kKeyWords];

  // A key, without what may differ between frames of one flow.
  Words flow() const {
    Words flow = *this;
    flow.at[kMarksWord] &= kWithoutMarks;
    return flow;
  }

  static Words of(const Key& key) {
    Words words;
    memcpy(words.at, &key, kKeyBytes);
    return words;
  }
  Key key() const {
    Key key;
    memcpy(&key, at, kKeyBytes);
    return key;
  }
  // For a key.
  bool is_fragment() const { return reinterpret_cast<const uint8_t*>(at)[offsetof(Key, ip_frag)] != kFragNone; }
  uint8_t ct_state() const { return reinterpret_cast<const uint8_t*>(at)[offsetof(Key, ct_state) + 1]; }
  void set_ct_state(uint8_t state) { reinterpret_cast<uint8_t*>(at)[offsetof(Key, ct_state) + 1] = state; }
  bool operator==(const Words&) const = default;
};

inline uint32_t load16(const uint8_t* from) { return static_cast<uint32_t>(from[0] << 8 | from[1]); }
inline uint32_t load32(const uint8_t* from) { return load16(from) << 16 | load16(from + 2); }

inline bool is_ipv4(const Key& key) { return load16(key.eth_type) == 0x0800; }
inline bool is_udp(const Key& key) {
  return key.ip_proto == 17 && (is_ipv4(key) || load16(key.eth_type) == 0x86dd);
}

inline void store16(uint8_t* to, uint32_t value) {
  to[0] = static_cast<uint8_t>(value >> 8);
  to[1] = static_cast<uint8_t>(value);
}

inline void store32(uint8_t* to, uint32_t value) {
  store16(to, value >> 16);
  store16(to + 2, value);
}

// The finalizer of MurmurHash3: FNV alone mixes its low bits badly.
inline uint32_t murmur_mixed(uint32_t hash) {
  hash ^= hash >> 16;
  hash *= 0x85ebca6b;
  hash ^= hash >> 13;
  hash *= 0xc2b2ae35;
  hash ^= hash >> 16;
  return hash;
}

// FNV-1a over some bytes of a key, in pieces.
class KeyHash {
 public:
  explicit KeyHash(const Key& key) : bytes_(reinterpret_cast<const uint8_t*>(&key)) {}
  KeyHash& add(size_t from, size_t to) {
    for (size_t i = from; i < to; ++i) hash_ = (hash_ ^ bytes_[i]) * 0x01000193;
    return *this;
  }
  uint32_t mixed() const { return murmur_mixed(hash_); }

 private:
  const uint8_t* bytes_;
  uint32_t hash_ = 0x811c9dc5;
};

// The flow hash of src/flow/hash.ts, which gives an encapsulated flow its UDP source port (RFC 7348
// §5). It covers MACs, addresses, protocol and ports, but not the ports of fragments: all fragments
// of a datagram take one path.
inline uint32_t flow_hash(const Key& key) {
  KeyHash hash(key);
  hash.add(offsetof(Key, eth_dst), offsetof(Key, eth_type)).add(offsetof(Key, ip_src), offsetof(Key, ip_tos));
  if (key.ip_frag == kFragNone) hash.add(offsetof(Key, l4_src), offsetof(Key, nd_lla));
  return hash.mixed();
}

// Identifies the sender, by its MAC address and the VTEP in front of it; never 0.
inline uint32_t sender_hash(const Key& key) {
  KeyHash hash(key);
  hash.add(offsetof(Key, tun_src), offsetof(Key, eth_dst)).add(offsetof(Key, eth_src), offsetof(Key, eth_type));
  return hash.mixed() ? hash.mixed() : 1;
}

}  // namespace weft
