// Actions and action programs.
//
// Actions are encoded as in src/flow/action.ts (compared at load) and kept in that form: a program is
// exactly what `encodeActions` returned. Many flows share a few programs, so programs are interned:
// equal ones are one object, with a count of the flows that use it. A set of programs is owned by one
// datapath and not thread-safe.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "balancing_table.h"
#include "reason.h"
#include "slot_index.h"
#include "treatment.h"

namespace weft {

enum class Op : uint8_t {
  output = 1,
  encap = 2,
  drop = 3,
  consume = 4,
  route = 5,
  echo = 6,
  mtu = 7,
  nat = 8,
  related = 9,
  clamp = 10,
  track = 11,
  refuse = 12,
  balance = 13,
  count = 14,
};

// What a refused frame is answered by: the names and numbers of src/flow/refusal.ts, compared at load.
#define WEFT_ANSWERS(X) \
  X(tcp_reset) X(net_unreachable) X(host_unreachable) X(port_unreachable) X(prohibited) X(time_exceeded)

enum class Answer : uint8_t {
#define X(name) name,
  WEFT_ANSWERS(X)
#undef X
};

inline constexpr const char* kAnswerNames[] = {
#define X(name) #name,
    WEFT_ANSWERS(X)
#undef X
};

inline constexpr size_t kAnswers = sizeof kAnswerNames / sizeof *kAnswerNames;

// True if it rewrites the frame for the actions after it.
inline bool rewrites(Op op) { return op == Op::route || op == Op::echo || op == Op::clamp; }

// The place in a program of actions that only prepare sending. They come in this order, each at most
// once. 0 means that the action sends or ends the frame.
inline int preparation(Op op) {
  switch (op) {
    case Op::nat:
    case Op::related:
    case Op::track:
    case Op::count:
      return 1;
    case Op::mtu:
      return 2;
    case Op::route:
    case Op::echo:
      return 3;
    case Op::clamp:
      return 4;
    default:
      return 0;
  }
}

// True if it uses a connection, in which case it comes before everything else.
inline bool connects(Op op) { return op == Op::nat || op == Op::related || op == Op::track || op == Op::count; }

// The smallest packet size that every IPv4 network carries (RFC 791). Fragments fit into it.
inline constexpr uint32_t kLeastMtu = 68;

struct Action {
  Op op;
  // Zeros, but for track: the DSCP of its treatment, and its mark.
  uint8_t extra[3];
  // Port, VNI, reason, bytes, MSS, the slot of a connection, or a balancing table; for track, the place where
  // replies come in; for refuse, the reason and, in the second byte, the answer. Little-endian, as on the
  // machine.
  uint32_t argument;
  // For encap, a VTEP. For route, the source and destination MACs, then zeros. For nat and related, the generation of
  // the connection (0 means the frame's own), 4 bytes, then 1 in the reply direction, then zeros. For track, the id of
  // the flow that replies take, 4 bytes, then the meter of its treatment. For refuse, where an ICMP error comes from, as in a key. For balance,
  // the owner of its connections and others that share the quota, 4 bytes each; 0 is none.
  uint8_t address[16];

  uint32_t generation() const { return number(); }
  uint32_t reply_flow() const { return number(); }
  // Of the connections that track opens.
  Treatment treatment() const {
    Treatment of = {static_cast<uint16_t>(extra[1] | extra[2] << 8), extra[0], 0, {}};
    memcpy(&of.meter, address + 4, sizeof of.meter);
    return of;
  }
  bool reply() const { return address[4] != 0; }
  Reason reason() const { return static_cast<Reason>(argument & 0xff); }
  Answer answer() const { return static_cast<Answer>(argument >> 8); }

 private:
  uint32_t number() const {
    uint32_t value;
    memcpy(&value, address, sizeof value);
    return value;
  }
};

// True if it uses the frame's own connection, so that connections can share the flow.
inline bool is_of_connections(const Action& action) {
  return action.op == Op::track || action.op == Op::count || (action.op == Op::nat && action.generation() == 0);
}

inline constexpr size_t kActionBytes = 24;
static_assert(sizeof(Action) == kActionBytes && offsetof(Action, argument) == 4 && offsetof(Action, address) == 8);

// The owners of a balance action.
struct BalanceOwners {
  uint32_t at[kBalanceOwners];

  explicit BalanceOwners(const Action& action) {
    static_assert(sizeof at == sizeof action.address);
    memcpy(at, action.address, sizeof at);
  }
  // Below this are the owners that are ports.
  static constexpr uint32_t kFirst = 1u << 16;
  static constexpr uint32_t kEnd = 1u << 17;

  // Is there one, and are all of them workloads?
  bool is_valid() const {
    for (const uint32_t owner : at) {
      if ((owner != 0 && owner < kFirst) || owner >= kEnd) return false;
    }
    return at[0] != 0;
  }
};

// True for one or more output/encap, possibly after actions that prepare sending, and for a single drop,
// refuse, consume or balance, provided that all arguments are in range.
inline bool actions_valid(const Action* actions, size_t count) {
  if (count == 0) return false;
  int prepared = 0;
  for (size_t i = 0; i < count; ++i) {
    if (const int place = preparation(actions[i].op)) {
      if (place <= prepared || i + 1 == count) return false;
      prepared = place;
    } else {
      prepared = INT_MAX;
    }
    switch (actions[i].op) {
      case Op::output:
        if (actions[i].argument > 0xffff) return false;
        break;
      case Op::encap:
        if (actions[i].argument > 0xffffff) return false;
        break;
      case Op::drop:
        if (count != 1 || actions[i].argument >= kReasons) return false;
        break;
      case Op::refuse:
        if (count != 1 || (actions[i].argument & 0xff) >= kReasons || actions[i].argument >> 8 >= kAnswers) return false;
        break;
      case Op::consume:
        if (count != 1) return false;
        break;
      case Op::balance:
        if (count != 1 || !BalanceOwners(actions[i]).is_valid()) return false;
        break;
      case Op::mtu:
        if (actions[i].argument < kLeastMtu || actions[i].argument > 0xffff) return false;
        break;
      case Op::clamp:
        if (actions[i].argument > 0xffff) return false;
        break;
      case Op::track: {
        const uint8_t dscp = actions[i].treatment().dscp;
        if (actions[i].argument > 0xffffff || (dscp & 0x40) || (dscp != 0 && dscp < Treatment::kSetsDscp)) return false;
        break;
      }
      case Op::nat:
      case Op::related:
      case Op::count:
      case Op::route:
      case Op::echo:
        break;
      default:
        return false;
    }
  }
  return true;
}

class Programs;

// A counted reference to an interned program, which can be moved but not copied. It must be
// destroyed before its Programs.
class Program {
 public:
  Program() = default;
  Program(Program&& other) noexcept : at_(std::exchange(other.at_, nullptr)) {}
  Program& operator=(Program other) noexcept {
    std::swap(at_, other.at_);
    return *this;
  }
  inline ~Program();

  const Action* begin() const { return at_->actions.data(); }
  const Action* end() const { return begin() + size(); }
  size_t size() const { return at_->actions.size(); }

 private:
  friend class Programs;

  struct Interned {
    Programs* owner;
    std::vector<Action> actions;
    uint32_t slot;
    uint32_t hash;
    uint32_t references = 0;
  };

  explicit Program(Interned* at) : at_(at) { ++at_->references; }

  Interned* at_ = nullptr;
};

class Programs {
 public:
  Programs() = default;
  Programs(const Programs&) = delete;
  Programs& operator=(const Programs&) = delete;

  // Copies `actions`, which must be valid.
  Program intern(const Action* actions, size_t count) {
    const uint32_t hash = hash_of(actions, count);
    const uint32_t found = index_.find(hash, [&](uint32_t slot) {
      const std::vector<Action>& known = slots_[slot]->actions;
      return known.size() == count && memcmp(known.data(), actions, count * kActionBytes) == 0;
    });
    if (found != SlotIndex::kNone) return Program(slots_[found].get());
    uint32_t slot;
    if (free_.empty()) {
      slot = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    slots_[slot] = std::make_unique<Program::Interned>(Program::Interned{this, {actions, actions + count}, slot, hash});
    index_.insert(hash, slot);
    return Program(slots_[slot].get());
  }

  size_t size() const { return index_.size(); }

 private:
  friend class Program;

  static uint32_t hash_of(const Action* actions, size_t count) {
    uint64_t hash = count;
    const auto* bytes = reinterpret_cast<const uint8_t*>(actions);
    for (size_t at = 0; at < count * kActionBytes; at += 8) {
      uint64_t word;
      memcpy(&word, bytes + at, 8);
      hash = hash_mix(hash, word);
    }
    return static_cast<uint32_t>(hash >> 32);
  }

  void release(Program::Interned* program) {
    if (--program->references > 0) return;
    const uint32_t slot = program->slot;
    index_.erase(program->hash, slot);
    slots_[slot].reset();
    free_.push_back(slot);
  }

  std::vector<std::unique_ptr<Program::Interned>> slots_;
  std::vector<uint32_t> free_;
  SlotIndex index_;
};

Program::~Program() {
  if (at_) at_->owner->release(at_);
}

}  // namespace weft
