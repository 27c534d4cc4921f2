// Undecided flows: one entry for each flow of which a frame missed the flow cache, or for each frame
// that is decided by itself, with copies of the frames that wait for the decision, in order; and the
// upcalls about them, until they are taken.
//
// Frames of one flow may have keys that differ in TOS and TTL. The upcall is about the first one. Its
// answer releases those with the same key that come first; behind them, the rest is decided as if it
// arrived then.
//
// Everything is bounded for each input port, so that a port which sends nothing but new flows uses
// up only its own share: kPendingPerPort entries, kParkedPerFlow frames in each,
// kParkedBytesPerPort bytes together. kParkedFragments fragments may wait, because a datagram that
// lacks one fragment is lost. Upcalls are taken once each, in turn over the ports. Those for
// multicast and broadcast frames, which take longest because many ports get the frames, are at most
// every second one.
//
// A token is (worker, generation, slot) in 53 bits. The generation of a slot changes when its entry
// goes, so a token that was used, or whose port went, is recognized as stale. Owned by one
// datapath; not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "frame.h"
#include "key.h"
#include "reason.h"
#include "slot_index.h"

namespace weft {

inline constexpr size_t kPendingPerPort = 1024;
inline constexpr size_t kPendingBalancedPerPort = 256;
inline constexpr size_t kParkedPerFlow = 8;
inline constexpr size_t kParkedFragments = 64;
inline constexpr size_t kParkedBytesPerPort = 8 << 20;
inline constexpr size_t kHeadBytes = 256;
inline constexpr size_t kUpcallBatch = 64;

using Token = uint64_t;

// In the form in which it crosses into JavaScript (src/datapath/native/records.ts has the offsets).
struct UpcallRecord {
  double token;
  uint32_t length;        // of the whole frame
  uint16_t head_length;   // how many bytes of `head` are used
  uint16_t packet_bytes;  // packet_bytes() of the frame
  Key key;
  uint8_t head[kHeadBytes];
};
static_assert(kHeadBytes <= UINT16_MAX, "widen UpcallRecord::head_length");
static_assert(offsetof(UpcallRecord, key) == 16 && offsetof(UpcallRecord, head) == 16 + kKeyBytes);
static_assert(sizeof(UpcallRecord) == 16 + kKeyBytes + kHeadBytes);

// A copy of a frame that owns its memory, with the word of its key that may differ within the flow.
struct ParkedFrame {
  ParkedFrame() = default;
  explicit ParkedFrame(const Frame& from, uint64_t marks = 0);
  Frame frame() const { return Frame{storage.get(), length, vnet}; }

  std::unique_ptr<uint8_t[]> storage;
  uint32_t length = 0;
  VnetHdr vnet = {};
  uint64_t marks = 0;
};

class PendingTable {
 public:
  // Distinct workers that fit into a token.
  static constexpr size_t kMostWorkers = 32;
  // `seed` keys the hashes. `worker` is part of the tokens, 0 … kMostWorkers - 1.
  static uint32_t worker_of(Token token) { return static_cast<uint32_t>(token >> (kGenerationBits + kSlotBits)); }
  PendingTable(uint64_t seed, uint32_t worker) : seed_(seed), worker_(worker) {}

  // Frames that are parked now.
  size_t held() const { return held_; }

  // Is the flow of this key undecided? Its handle, or kNone.
  uint32_t find(const Words& key) const;
  static constexpr uint32_t kNone = SlotIndex::kNone;

  // Parks a copy behind the others. kNoDrop, or why not.
  Reason park(uint32_t handle, const Words& key, const Frame& frame);
  // Opens an undecided flow with a copy of its first frame, and its upcall. kNoDrop, or why not. `is_balanced`: it is one direction
  // of a balanced connection, and as soon as the first of them is decided, others like it need no decision.
  Reason open(uint16_t port, const Key& key, const Frame& frame, bool is_balanced = false);

  // Moves up to `max` upcalls, round robin over the ports: one for a unicast frame, then one for a
  // multicast or broadcast frame, and so on while there are both. Without `groups`, only for unicast frames.
  size_t take_upcalls(UpcallRecord* to, size_t max, bool groups = true);
  // Is anything from this port undecided?
  bool has(uint16_t port) const {
    const auto at = shares_.find(port);
    return at != shares_.end() && at->second.pendings > 0;
  }
  bool upcalls_wait(bool groups = true) const { return !single_.turns.empty() || (groups && !group_.turns.empty()); }

  // Ends the entry of a token and moves out its frames, in order. There are none if the token is
  // stale. The first `decided` ones have the key of the upcall.
  struct Released {
    Words key;
    uint16_t port = 0;
    size_t decided = 0;
    std::vector<ParkedFrame> frames;

    // The key of a frame.
    Words key_of(const ParkedFrame& frame) const {
      Words words = key;
      words.at[kMarksWord] = frame.marks;
      return words;
    }
  };
  Released release(Token token);

  // Removes everything from `port` that waits. Returns the number of frames that were parked.
  size_t drop_port(uint16_t port);

 private:
  static constexpr unsigned kWorkerBits = 5;
  static constexpr unsigned kGenerationBits = 28;
  static constexpr unsigned kSlotBits = 20;
  static_assert(kWorkerBits + kGenerationBits + kSlotBits <= 53, "a token crosses into JavaScript as a double");
  static constexpr uint32_t kGenerationMask = (1u << kGenerationBits) - 1;

  static_assert(kMostWorkers <= 1u << kWorkerBits, "widen kWorkerBits at the expense of kGenerationBits");

  struct Pending {
    Words key;  // of the first frame
    uint16_t port = 0;
    bool used = false;
    bool balanced = false;
    uint32_t generation = 1;
    uint32_t hash = 0;
    std::vector<ParkedFrame> frames;
  };

  // Upcalls that wait to be taken.
  struct Queue {
    std::unordered_map<uint16_t, std::deque<UpcallRecord>> upcalls;
    std::deque<uint16_t> turns;  // ports in `upcalls`; the one whose turn it is comes first

    UpcallRecord& add(uint16_t port);
    void take(UpcallRecord* to);
    void drop(uint16_t port);
  };

  // What waits from one port.
  struct Share {
    size_t pendings = 0;
    size_t balanced = 0;
    size_t bytes = 0;
  };

  uint32_t hash(const Words& flow) const;
  Token token_of(uint32_t slot) const;
  Reason hold(Pending* pending, Share* share, const Words& key, const Frame& frame);
  // Ends the entry in `slot`.
  Released take(uint32_t slot);

  uint64_t seed_;
  uint32_t worker_;
  size_t held_ = 0;
  std::deque<Pending> slots_;
  std::vector<uint32_t> free_;
  SlotIndex by_flow_;
  std::unordered_map<uint16_t, Share> shares_;
  Queue single_;
  Queue group_;  // for multicast and broadcast frames
};

}  // namespace weft
