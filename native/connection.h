// Connections: what address translation remembers of a conversation, in memory
// that the switch shares with its datapath and that outlives a crash. The layout
// is that of src/flow/connection.ts (compared at load).
//
// A connection is known by two tuples: as packets of its original direction come
// in, and as they go out. Those of the reply direction come in and go out as the
// same two, turned round.
//
// Who owns what: the switch opens and closes connections and writes the tuples,
// when no program refers to them. Of the two halves each is written by the thread
// that runs its direction's frames, and read by everyone, so their fields are
// loaded and stored one by one, without any order between them. What TCP is at
// follows from both halves and is kept nowhere.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "frame.h"
#include "key.h"
#include "offload.h"

namespace weft {

struct Tuple {
  uint8_t source[16];  // IPv4-mapped or IPv6, network order
  uint8_t destination[16];
  uint8_t source_port[2];  // big-endian; of an echo, both are its identifier
  uint8_t destination_port[2];
};
static_assert(sizeof(Tuple) == 36);

// Of `ConnectionHalf::seen`: what one side of a TCP connection has sent.
inline constexpr uint32_t kSeenSyn = 1;
inline constexpr uint32_t kSeenAck = 2;
inline constexpr uint32_t kSeenFin = 4;
inline constexpr uint32_t kSeenRst = 8;

struct ConnectionHalf {
  double last_seen_ms;
  uint64_t packets;
  uint64_t bytes;
  uint32_t end;    // TCP: the sequence number behind the last byte
  uint32_t acked;  // TCP: the last acknowledgment number
  uint32_t seen;
  uint8_t zero[28];  // a line of its own in the cache
};
static_assert(sizeof(ConnectionHalf) == 64);

struct Connection {
  uint32_t generation;  // another one each time that the place is taken; odd while it is written, 0 free
  uint32_t vni;
  uint8_t protocol;
  uint8_t zero[3];
  Tuple original;
  Tuple translated;
  uint8_t more_zero[44];
  ConnectionHalf halves[2];  // original, reply
};
static_assert(sizeof(Connection) == 256 && offsetof(Connection, original) == 12 &&
              offsetof(Connection, translated) == 48 && offsetof(Connection, halves) == 128);

// All connections there is room for. Does not own the memory.
struct Connections {
  Connection* at = nullptr;
  size_t count = 0;

  // Null: it has gone since.
  Connection* find(uint32_t slot, uint32_t generation) const {
    if (slot >= count) return nullptr;
    Connection* connection = at + slot;
    return std::atomic_ref(connection->generation).load(std::memory_order_acquire) == generation ? connection : nullptr;
  }
};

template <typename T>
T relaxed_load(T& from) {
  return std::atomic_ref(from).load(std::memory_order_relaxed);
}

template <typename T>
void relaxed_store(T& to, T value) {
  std::atomic_ref(to).store(value, std::memory_order_relaxed);
}

// Is `a` at or before `b`, of sequence numbers (RFC 9293 §3.4)?
inline bool seq_up_to(uint32_t a, uint32_t b) { return static_cast<int32_t>(b - a) >= 0; }

// A TCP segment of `payload` bytes, sent by the owner of `half`. What ends a
// connection or begins it anew counts only with a sequence number that the two
// sides can have agreed on (RFC 5961 §3, §4): anything else is passed on, for the
// receiver to judge, and changes nothing here.
inline void track_tcp(ConnectionHalf* half, ConnectionHalf* other, bool is_first, const uint8_t* tcp,
                      uint32_t payload) {
  constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;
  const uint32_t sequence = load32(tcp + 4);
  const uint32_t acknowledged = load32(tcp + 8);
  const uint8_t flags = tcp[13];
  uint32_t seen = relaxed_load(half->seen);
  const uint32_t end = relaxed_load(half->end);
  const uint32_t others_seen = relaxed_load(other->seen);
  const uint32_t others_end = relaxed_load(other->end);

  if (flags & kRst) {
    const bool refuses_syn = is_first && (flags & kAck) && acknowledged == others_end;
    const bool is_awaited = (others_seen & kSeenAck) && sequence == relaxed_load(other->acked);
    const bool is_next = (!is_first && sequence == end) || is_awaited;
    if (refuses_syn || is_next) relaxed_store(half->seen, seen | kSeenRst);
    return;
  }
  if (flags & kSyn) {
    const bool is_over = ((seen | others_seen) & kSeenRst) || (seen & others_seen & kSeenFin);
    const bool answers = (flags & kAck) && (others_seen & kSeenSyn) && acknowledged == others_end;
    if (!is_first && !is_over && !answers) return;
    relaxed_store(half->seen, kSeenSyn | (flags & kAck ? kSeenAck : 0));
    relaxed_store(half->end, sequence + 1 + payload);
    relaxed_store(half->acked, acknowledged);
    return;
  }
  const uint32_t next = sequence + payload + (flags & kFin ? 1 : 0);
  const bool is_further = is_first || seq_up_to(end, next);
  if (is_further) relaxed_store(half->end, next);
  if ((flags & kFin) && is_further && (is_first || seq_up_to(sequence, end))) seen |= kSeenFin;
  if (flags & kAck) {
    const bool is_later = !(seen & kSeenAck) || seq_up_to(relaxed_load(half->acked), acknowledged);
    if (is_later) relaxed_store(half->acked, acknowledged);
    seen |= kSeenAck;
  }
  relaxed_store(half->seen, seen);
}

// A frame of the connection, in the direction of its half 0 or 1. `l4` is where
// its L4 header is, 0 if it has none.
inline void track(Connection* connection, bool reply, const Frame& frame, uint32_t l4, double now_ms) {
  constexpr uint8_t kTcp = 6;
  ConnectionHalf* half = &connection->halves[reply];
  const uint64_t packets = relaxed_load(half->packets);
  if (connection->protocol == kTcp && l4) {
    const uint32_t payload = frame.length - payload_offset(frame.data, l4, true);
    track_tcp(half, &connection->halves[!reply], packets == 0, frame.data + l4, payload);
  }
  relaxed_store(half->packets, packets + 1);
  relaxed_store(half->bytes, relaxed_load(half->bytes) + frame.length);
  relaxed_store(half->last_seen_ms, now_ms);
}

}  // namespace weft
