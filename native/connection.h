// Connections: what the switch remembers of conversations, as records in memory that it shares with
// its datapath and that survives a crash. The layout is that of src/flow/connection.ts (compared at
// load).
//
// A connection is identified by two tuples: that of packets of its original direction as they come
// in, and that of the same packets as they go out. Packets of the reply direction come in and go out
// with these two tuples reversed. A tuple is meaningful in one place only (a network, the outside, the
// namespace of weft's own sockets), so each direction has the place where its packets come in.
//
// Who writes what. The head of a record is everything except its halves. It is written in a single
// call of the table that finds connections (connection_table.h has the rules), while no thread can be
// looking at it. Afterwards only `generation`, the links of the lists, `kind`, `verdict` and `table` change, all under
// the table's lock; workers load `kind` and `table` without it. Each half is written by the thread that runs the
// frames of its direction, and read by all threads, so its fields are loaded and stored one by one, with no order
// between them; but for treatment and port, which are written with the head. The state of TCP follows from both halves and is not stored.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "frame.h"
#include "key.h"
#include "offload.h"
#include "treatment.h"

namespace weft {

struct Tuple {
  uint8_t source[16];  // IPv4-mapped or IPv6, network order
  uint8_t destination[16];
  uint8_t source_port[2];  // big-endian; for an echo, both are its identifier; 0 for a protocol without ports
  uint8_t destination_port[2];
};
static_assert(sizeof(Tuple) == 36);

// Values of `ConnectionHalf::seen`: what one side of a TCP connection has sent.
inline constexpr uint32_t kSeenSyn = 1;
inline constexpr uint32_t kSeenAck = 2;
inline constexpr uint32_t kSeenFin = 4;
inline constexpr uint32_t kSeenRst = 8;
// Of the reply half alone: a segment between these ends that does not answer the SYN. Its sender has another conversation.
inline constexpr uint32_t kSeenOther = 16;

struct ConnectionHalf {
  double last_seen_ms;
  uint64_t packets;
  uint64_t bytes;
  uint32_t end;    // TCP: the sequence number after the last byte
  uint32_t acked;  // TCP: the last acknowledgment number
  uint32_t seen;
  uint32_t flow;       // id of the cached flow that its packets take; 0: none yet
  uint32_t flow_slot;  // where that flow was last found
  Treatment treatment;  // of the original half alone
  uint32_t port;        // of the original half alone: where a translated connection came in; 0: not by a port of this host
};
static_assert(sizeof(ConnectionHalf) == 64);

// `ended`: it was translated, and weft has ended it. Its packets are known as such, so that none passes untranslated; of
// UDP, only replies.
enum class ConnectionKind : uint8_t { tracked = 1, translated = 2, ended = 3 };

// Each direction has two lines of the cache beside each other: the tuple by which its packets are found, and its half.
struct Connection {
  uint32_t generation;  // changes each time that the slot is taken; odd while the record is written, 0 if free
  uint8_t protocol;     // TCP, UDP, ICMP or ICMPv6; of one that is only tracked, any
  ConnectionKind kind;
  uint8_t verdict;     // of one that has ended: 1, 2: policies for egress, ingress deny it; 0: another reason
  uint8_t proven;      // 1: it was seen in use (connection_table.h)
  // Where packets of its original and its reply direction come in: a VNI, 0 for the outside, or 2^24 for weft's own sockets.
  uint32_t places[2];
  Tuple original;
  uint32_t owner;           // the owner whose quota it counts towards
  uint32_t next, previous;  // in its owner's list, or in that of the free slots
  ConnectionHalf original_half;
  Tuple translated;  // equal to `original` if the connection is only tracked
  uint32_t pin;      // the backend chosen for it; 0: none
  uint32_t table;    // the balancing table that chose it, if workers may close it; 0: JavaScript learns of its end
  uint32_t policy;  // id of the policy behind `verdict`
  uint8_t via[16];  // the host that it came in by from outside, if that is another one: its address in the underlay
  ConnectionHalf reply_half;

  ConnectionHalf& half(bool reply) { return reply ? reply_half : original_half; }
  const ConnectionHalf& half(bool reply) const { return reply ? reply_half : original_half; }
};
static_assert(sizeof(Connection) == 256 && offsetof(Connection, places) == 8 && offsetof(Connection, original) == 16 &&
              offsetof(Connection, owner) == 52 && offsetof(Connection, original_half) == 64 &&
              offsetof(Connection, translated) == 128 && offsetof(Connection, pin) == 164 &&
              offsetof(Connection, table) == 168 &&
              offsetof(Connection, via) == 176 &&
              offsetof(Connection, reply_half) == 192);

template <typename T>
T relaxed_load(T& from) {
  return std::atomic_ref(from).load(std::memory_order_relaxed);
}

template <typename T>
void relaxed_store(T& to, T value) {
  std::atomic_ref(to).store(value, std::memory_order_relaxed);
}

// The state of a conversation.
enum class ConnectionState : uint8_t {
  fresh,  // no answer yet
  answered,
  syn_sent,
  syn_received,
  established,
  closing,
  time_wait,
  closed,
};

inline ConnectionKind kind_of(Connection& connection) { return relaxed_load(connection.kind); }

inline ConnectionState state_of(Connection& connection) {
  constexpr uint8_t kTcp = 6;
  if (kind_of(connection) == ConnectionKind::ended) return ConnectionState::time_wait;
  ConnectionHalf& original = connection.half(0);
  ConnectionHalf& reply = connection.half(1);
  const bool is_answered = relaxed_load(original.packets) && relaxed_load(reply.packets);
  if (connection.protocol != kTcp) return is_answered ? ConnectionState::answered : ConnectionState::fresh;
  const uint32_t seen = relaxed_load(original.seen), reply_seen = relaxed_load(reply.seen);
  const uint32_t both = seen & reply_seen, either = seen | reply_seen;
  if (either & kSeenRst) return ConnectionState::closed;
  if (both & kSeenFin) return ConnectionState::time_wait;
  if (!is_answered) return ConnectionState::syn_sent;  // whatever it was that nobody has answered, also a FIN
  if (either & kSeenFin) return ConnectionState::closing;
  return both & kSeenAck ? ConnectionState::established : ConnectionState::syn_received;
}

// True if it may be given up for a new one because it is half-open or over.
inline bool is_expendable(Connection& connection) {
  const ConnectionState state = state_of(connection);
  return state != ConnectionState::answered && state != ConnectionState::established && state != ConnectionState::closing;
}

// True unless it is TCP, and the handshake has never been completed, whatever has become of it.
inline bool was_established(Connection& connection) {
  constexpr uint8_t kTcp = 6;
  if (connection.protocol != kTcp) return true;
  return relaxed_load(connection.half(0).seen) & relaxed_load(connection.half(1).seen) & kSeenAck;
}

// True if both sides have said that it is over.
inline bool is_over(Connection& connection) {
  const ConnectionState state = state_of(connection);
  return state == ConnectionState::time_wait || state == ConnectionState::closed;
}

inline double last_seen_ms(Connection& connection) {
  const double original = relaxed_load(connection.half(0).last_seen_ms);
  const double reply = relaxed_load(connection.half(1).last_seen_ms);
  return original > reply ? original : reply;
}

// True if it is only tracked, and has had no packet for some minutes.
inline bool is_quiet(Connection& connection, double now_ms) {
  constexpr double kQuietMs = 240'000;
  return kind_of(connection) == ConnectionKind::tracked && now_ms >= last_seen_ms(connection) + kQuietMs;
}

// How long it stays without a packet. As in Linux, one that was reset goes before the 240 s of
// RFC 7857 §2.2 are over: a port does not wait before it is used again, and neither does a connection.
inline double timeout_ms(Connection& connection) {
  constexpr uint8_t kIcmp = 1, kUdp = 17, kIcmpv6 = 58;
  if (connection.protocol == kIcmp || connection.protocol == kIcmpv6) return 60'000;
  if (connection.protocol == kUdp) {
    // A question and its answer (RFC 4787 §4.3, REQ-5 a). A busy resolver must not run out of connections.
    const uint8_t* port = connection.original.destination_port;
    const bool is_dns = port[0] == 0 && port[1] == 53;
    // Of one that has ended, that is how late an answer may be.
    if (is_dns || kind_of(connection) == ConnectionKind::ended) return 30'000;
  }
  switch (state_of(connection)) {
    case ConnectionState::fresh:
    case ConnectionState::answered:
      return 120'000;
    case ConnectionState::established:
      return 7'440'000;
    case ConnectionState::closed:
      return 10'000;
    case ConnectionState::time_wait:
      // One that policies have ended, or of which not all ends know, stays until its ends have given up repeating what nobody
      // acknowledges, and asking whether the other one is there.
      if (kind_of(connection) == ConnectionKind::ended) {
        const bool is_told = relaxed_load(connection.half(1).seen) & kSeenRst;
        return connection.verdict || !is_told ? 8'300'000 : 240'000;
      }
      return kind_of(connection) == ConnectionKind::tracked ? 10'000 : 240'000;
    default:
      return 240'000;
  }
}

// True if sequence number `a` is at or before `b` (RFC 9293 §3.4).
inline bool seq_up_to(uint32_t a, uint32_t b) { return static_cast<int32_t>(b - a) >= 0; }

// How far a side may be ahead of what the other has acknowledged, and how far its acknowledgments may be behind what
// the other has sent: more than hosts keep in flight, and a small part of the sequence space.
inline constexpr uint32_t kInFlight = 1u << 26;

// Tracks a TCP segment of `payload` bytes sent by the owner of `half`. It counts only if its
// sequence numbers are ones that the two sides can have agreed on (RFC 5961 §3-§5), so that each side
// limits what is believed of the other: nobody acknowledges what was not sent, and nobody sends
// beyond any window. Any other segment is passed on for the receiver to judge, and changes nothing
// here.
inline void track_tcp(ConnectionHalf* half, ConnectionHalf* other, const uint8_t* tcp, uint32_t payload) {
  constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;
  const uint32_t sequence = load32(tcp + 4);
  const uint32_t acknowledged = load32(tcp + 8);
  const uint8_t flags = tcp[13];
  uint32_t seen = relaxed_load(half->seen);
  const uint32_t end = relaxed_load(half->end);
  const uint32_t others_seen = relaxed_load(other->seen);
  const uint32_t others_end = relaxed_load(other->end);
  const uint32_t others_acked = relaxed_load(other->acked);
  const bool is_known = seen & (kSeenSyn | kSeenAck);
  const bool is_other_known = others_seen & (kSeenSyn | kSeenAck);
  const bool is_bounded = others_seen & kSeenAck;

  if (flags & kRst) {
    const bool refuses_syn = !is_known && (flags & kAck) && acknowledged == others_end;
    const bool is_awaited = is_bounded && sequence == others_acked;
    const bool is_next = is_known && sequence == end;
    if (refuses_syn || is_awaited || is_next) relaxed_store(half->seen, seen | kSeenRst);
    return;
  }
  if (flags & kSyn) {
    const bool is_over = ((seen | others_seen) & kSeenRst) || (seen & others_seen & kSeenFin);
    const bool answers = (flags & kAck) && (others_seen & kSeenSyn) && acknowledged == others_end;
    // Another attempt with another number counts until the other side has answered.
    if (is_known && is_other_known && !is_over && !answers) return;
    relaxed_store(half->seen, kSeenSyn | (flags & kAck ? kSeenAck : 0));
    relaxed_store(half->end, sequence + 1 + payload);
    relaxed_store(half->acked, acknowledged);
    return;
  }
  if (!(flags & kAck)) return;  // no receiver accepts it (RFC 9293 §3.10.7.4)
  const uint32_t next = sequence + payload + (flags & kFin ? 1 : 0);
  const bool is_sent = !is_other_known || others_end - acknowledged <= kInFlight;
  const bool is_near = !is_bounded || next - others_acked <= kInFlight;
  if (!is_sent || !is_near) return;
  const bool is_further = !is_known || seq_up_to(end, next);
  if (is_further) relaxed_store(half->end, next);
  if (!(seen & kSeenAck) || seq_up_to(relaxed_load(half->acked), acknowledged)) relaxed_store(half->acked, acknowledged);
  seen |= kSeenAck;
  if ((flags & kFin) && (is_bounded || is_further)) seen |= kSeenFin;
  relaxed_store(half->seen, seen);
}

// Tracks a frame of the connection, in the direction of its half 0 or 1. `l4` is the offset of its L4
// header, or 0 if it has none.
inline void track(Connection* connection, bool reply, const Frame& frame, uint32_t l4, double now_ms) {
  constexpr uint8_t kTcp = 6;
  ConnectionHalf* half = &connection->half(reply);
  const uint64_t packets = relaxed_load(half->packets);
  if (connection->protocol == kTcp && l4) {
    const uint32_t payload = frame.length - payload_offset(frame.data, l4, true);
    track_tcp(half, &connection->half(!reply), frame.data + l4, payload);
  }
  relaxed_store(half->packets, packets + 1);
  relaxed_store(half->bytes, relaxed_load(half->bytes) + frame.length);
  relaxed_store(half->last_seen_ms, now_ms);
}

}  // namespace weft
