// Fragments on their way through the switch. Only the first fragment of a datagram has its ports, and
// all of its fragments must be decided by them. So the first one is remembered, and later ones get its
// protocol and ports in their keys; those that come before it wait. Datagrams are not reassembled, and
// nothing is changed.
//
//   first             is forwarded, and after it those that waited, in their order
//   later             is forwarded, or waits for the first
//   the same again    is dropped alone (RFC 8200 §4.5)
//   overlapping       or contradicting the end of the datagram: it is dropped, and so is
//                     everything of the datagram that waits or is still to come (RFC 5722;
//                     for IPv4 the same)
//   all there         the datagram is forgotten: its identification may be used again
//
// Only exactly the same bytes of a datagram count as the same again; a fragment within another one
// overlaps (Linux drops that alone, too, and keeps the datagram). The protocol distinguishes IPv4
// datagrams, but not IPv6 ones (RFC 8200 §4.5: the one in the first fragment counts). MAC addresses
// do not distinguish datagrams, since the receiver does not look at them.
//
// A datagram is forgotten kFragmentTimeoutMs after its first fragment arrived. RFC 791 and RFC 8200
// have 15 to 60 s, but for hosts that reassemble it. Here it only limits how far apart fragments
// may arrive, and on a fast path an identification is used again after some seconds. Fragments that
// still wait are dropped then.
//
// Everything is bounded for each input port, so that a port which sends nothing but fragments uses
// up only its own share: kDatagramsPerPort datagrams, and kWaitingBytesPerPort bytes of waiting
// fragments, with kWaitingPerDatagram of each datagram. When the port reaches one of its limits,
// its oldest datagram gives way: what is known about it is lost, and its waiting fragments are
// dropped.
//
// Owned by one datapath; not thread-safe. All fragments of a datagram come to the same datapath
// (workers.h). src/datapath/reference/fragment-tracker.ts does the same.
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
  Key key;  // with the protocol and ports of the first fragment once it is released
  ParkedFrame frame;
};

// Which parts of a datagram have come, in units of 8 bytes.
class Coverage {
 public:
  void clear() { *this = {}; }
  void add(uint32_t from, uint32_t to);
  // True if any byte of this range has arrived.
  bool overlaps(uint32_t from, uint32_t to) const;
  // True if one fragment that has arrived is exactly this range.
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
  // `seed` is the key of the hashes.
  explicit FragmentTracker(uint64_t seed) : seed_(seed) {}

  // Fragments that wait now.
  size_t held() const { return held_; }

  struct Tracked {
    bool waits = false;
    Reason refused = kNoDrop;  // why the fragment is dropped; then
    size_t with_it = 0;        // so many waiting ones are dropped with it, for the same reason
    size_t gave_way = 0;       // so many of other datagrams of the port gave way: fragment_limit
  };
  // Tracks a fragment from `port` that was extracted to `key`. A later one that is forwarded then
  // has the protocol and ports of the first in its key. One that waits is copied.
  Tracked track(uint16_t port, Key* key, const Frame& frame, double now_ms);
  // The fragments that waited for the one that was tracked last, in order.
  std::vector<WaitingFragment> take_released() { return std::exchange(released_, {}); }

  // Forgets datagrams that are too old. Calls `drop(port, frames)` for their waiting fragments.
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

  // What identifies a datagram.
  struct Identity {
    uint8_t in_port[2];
    uint8_t tun_vni[4];
    uint8_t tun_src[16];
    uint8_t addresses[32];
    uint8_t id[4];
    uint8_t protocol;  // IPv4 only
    uint8_t version;
    uint8_t padding[4];
  };
  static_assert(sizeof(Identity) == 64);

  // What a first fragment says about all fragments.
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
    uint32_t older;  // next older datagram of the same port
    uint32_t newer;
    uint16_t port;
    double due_ms;
    bool has_first;
    bool is_discarded;
    Upper first;
    uint32_t bytes;  // bytes that have come
    uint32_t end;    // end of what has come
    uint32_t total;  // 0: the last one has not come yet
    Coverage coverage;
    std::vector<WaitingFragment> waiting;
  };

  // What is known about the datagrams of one port.
  struct Share {
    size_t datagrams = 0;
    size_t bytes = 0;  // bytes that wait
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
  double due_ms_ = kNever;  // nothing is due before that
  std::deque<Datagram> slots_;
  std::vector<uint32_t> free_;
  SlotIndex by_identity_;
  std::unordered_map<uint16_t, Share> shares_;
  std::vector<WaitingFragment> released_;
};

}  // namespace weft
