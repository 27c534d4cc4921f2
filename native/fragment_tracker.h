// Fragments on their way through: a datagram's ports are in its first fragment
// only, and each of its fragments is to be decided by them. So the first is
// remembered, and later ones get its protocol and ports in their keys; those that
// come before it wait. Nothing is put together, and nothing is changed.
//
//   first             goes on, and behind it those that waited, in their order
//   later             goes on, or waits for the first
//   the same again    is dropped alone (RFC 8200 §4.5)
//   overlapping       or one that contradicts where the datagram ends: it is dropped,
//                     and so is all of the datagram that waits or comes (RFC 5722, and
//                     IPv4 likewise)
//   all there         the datagram is forgotten: its identification may come again
//
// Only the very same bytes of a datagram are the same again; a fragment within
// another one overlaps (Linux drops that alone, too, and keeps the datagram). Protocols
// tell datagrams of IPv4 apart, those of IPv6 not (RFC 8200 §4.5: the one in the first
// fragment counts). Nor do MAC addresses, at which the receiver does not look.
//
// A datagram is forgotten kFragmentTimeoutMs after its first arrival. RFC 791 and
// RFC 8200 have 15 to 60 s, but for hosts that put it together: here it is only how
// far fragments may arrive apart, and on a fast path an identification is used
// again after some seconds. What waits then is dropped.
//
// All is bounded by the input port, so that a port which sends nothing but
// fragments uses up only its own share: kDatagramsPerPort, and kWaitingBytesPerPort
// of fragments, kWaitingPerDatagram of each. At either limit of the port its oldest
// datagram gives way; what is known of it is lost, and what waits is dropped.
//
// Owned by one datapath; not thread-safe. All fragments of a datagram come to the
// same one (workers.h). src/datapath/reference/fragment-tracker.ts does the same.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "extract.h"
#include "frame.h"
#include "key.h"
#include "pending.h"
#include "reason.h"
#include "slot_index.h"

namespace weft {

inline constexpr size_t kDatagramsPerPort = 256;
inline constexpr size_t kWaitingPerDatagram = 64;
inline constexpr size_t kWaitingBytesPerPort = 1 << 20;
inline constexpr double kFragmentTimeoutMs = 5000;

struct WaitingFragment {
  Key key;  // with the protocol and ports of the first, when it is released
  ParkedFrame frame;
};

// Which parts of a datagram came, in units of 8 bytes.
class Coverage {
 public:
  void clear() { *this = {}; }
  void add(uint32_t from, uint32_t to);
  // Did any of it come?
  bool overlaps(uint32_t from, uint32_t to) const;
  // Did just this come as a fragment?
  bool has(uint32_t from, uint32_t to) const;

 private:
  static constexpr uint32_t kUnits = 8192;
  struct Bits {
    uint64_t words[kUnits / 64] = {};
    bool operator[](uint32_t unit) const { return words[unit / 64] >> unit % 64 & 1; }
  };
  Bits came_;
  Bits begins_;  // where fragments begin
};

class FragmentTracker {
 public:
  // `seed` keys the hashes.
  explicit FragmentTracker(uint64_t seed) : seed_(seed) {}

  // Fragments that wait now.
  size_t held() const { return held_; }

  struct Tracked {
    bool waits = false;
    Reason refused = kNoDrop;  // or the fragment is dropped, and
    size_t with_it = 0;        // so many that waited, for the same reason
    size_t gave_way = 0;       // of other datagrams of the port: fragment_limit
  };
  // What becomes of a fragment from `port`, extracted to `key`: a later one that goes
  // on has its protocol and ports then. A copy of it waits.
  Tracked track(uint16_t port, Key* key, const Frame& frame, double now_ms);
  // What waited for the fragment that was tracked last, in order.
  std::vector<WaitingFragment> take_released() { return std::exchange(released_, {}); }

  // Forgets what is too old. Calls `drop(port, frames)` for what waited.
  template <typename Drop>
  void expire(double now_ms, Drop drop) {
    if (now_ms < due_ms_) return;
    due_ms_ = kNever;
    for (auto& [port, share] : shares_) {
      while (share.oldest != kNone && now_ms >= slots_[share.oldest].due_ms) drop(port, remove(share.oldest));
      if (share.oldest != kNone) due_ms_ = std::min(due_ms_, slots_[share.oldest].due_ms);
    }
  }
  // Forgets the datagrams from `port`. Returns the number of fragments that waited.
  size_t drop_port(uint16_t port);

 private:
  static constexpr uint32_t kNone = SlotIndex::kNone;
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  // What tells datagrams apart.
  struct Identity {
    uint8_t in_port[4];
    uint8_t tun_vni[4];
    uint8_t tun_src[16];
    uint8_t addresses[32];
    uint8_t id[4];
    uint8_t protocol;  // of IPv4
    uint8_t version;
    uint8_t padding[2];
  };
  static_assert(sizeof(Identity) == 64);

  // What a first fragment says for all.
  struct Upper {
    uint8_t ip_proto;
    uint8_t l4_src[2];
    uint8_t l4_dst[2];
    uint8_t icmp_id[2];

    static Upper of(const Key& key) {
      return {key.ip_proto, {key.l4_src[0], key.l4_src[1]}, {key.l4_dst[0], key.l4_dst[1]},
              {key.icmp_id[0], key.icmp_id[1]}};
    }
    void give(Key* key) const {
      key->ip_proto = ip_proto;
      memcpy(key->l4_src, l4_src, sizeof l4_src);
      memcpy(key->l4_dst, l4_dst, sizeof l4_dst);
      memcpy(key->icmp_id, icmp_id, sizeof icmp_id);
    }
  };

  struct Datagram {
    Identity identity;
    uint32_t hash;
    uint32_t older;  // of the same port
    uint32_t newer;
    uint16_t port;
    double due_ms;
    bool has_first;
    bool is_discarded;
    Upper first;
    uint32_t bytes;  // that came
    uint32_t end;    // of what came
    uint32_t total;  // 0: the last did not come yet
    Coverage coverage;
    std::vector<WaitingFragment> waiting;
  };

  // What is known of one port's datagrams.
  struct Share {
    size_t datagrams = 0;
    size_t bytes = 0;  // that wait
    uint32_t oldest = kNone;
    uint32_t newest = kNone;
  };

  static Identity identity_of(const Key& key, const FragmentPart& part);
  uint32_t find(const Identity& identity, uint32_t hash) const;
  uint32_t open(uint16_t port, const Identity& identity, uint32_t hash, double now_ms);
  Tracked add(uint32_t slot, const FragmentPart& part, Key* key, const Frame& frame);
  bool make_room(Share* share, uint32_t keep, size_t bytes, size_t* gave_way);
  std::vector<WaitingFragment> take_waiting(Datagram* datagram);
  size_t remove(uint32_t slot);

  uint64_t seed_;
  size_t held_ = 0;
  double due_ms_ = kNever;  // nothing is due before
  std::deque<Datagram> slots_;
  std::vector<uint32_t> free_;
  SlotIndex by_identity_;
  std::unordered_map<uint16_t, Share> shares_;
  std::vector<WaitingFragment> released_;
};

}  // namespace weft
