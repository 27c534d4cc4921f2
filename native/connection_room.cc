// Room for new connections: the quotas of owners, and which connection is given up. connection_table.h explains it.
#include "connection_table.h"

#include <algorithm>

namespace weft {
namespace {

// How many connections are looked at, at most, to find one to give up: unproven ones, each of which is looked at only
// once; proven ones; and those of all owners. The next search goes on where this one ends, so what is over is found after
// some searches, however many others there are.
constexpr uint32_t kUnprovenLooked = 256;
constexpr uint32_t kProvenLooked = 32;
constexpr uint32_t kAllLooked = 32;
// How many of all, if it is for a tracked one: there is one such search in vain in `kSearchAgainMs`, and no more.
constexpr uint32_t kAllLookedSeldom = 256;
// How many owners are looked at to find the one that has the most.
constexpr uint32_t kOwnersLooked = 32;
// How long a tracked connection that found nothing to give up keeps others from searching in vain.
constexpr double kSearchAgainMs = 1;
// How many unproven ones are looked at before each new connection, so that they are seen in use before there are too
// many.
constexpr uint32_t kLookedOn = 8;

}  // namespace

uint32_t ConnectionTable::room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota,
                               uint32_t* generation) {
  std::lock_guard guard(mutex_);
  for (size_t i = 0; i < count; ++i) look_on(&owners_[owners[i]]);
  const uint32_t slot = room(owners, count, quota, unproven_quota, Of::any, 0);
  if (generation) *generation = given_up(slot).generation;
  return slot;
}

uint32_t ConnectionTable::room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota,
                               Of whose, double now_ms) {
  const auto may_go = [&](uint32_t slot) { return slot != kNone && may_take_place(whose, slot) ? slot : kNone; };
  size_t unproven = 0, all = 0;
  for (size_t i = 0; i < count; ++i) {
    const Owner& owner = owners_[owners[i]];
    unproven += owner.unproven.size;
    all += owner.size();
  }
  if (unproven >= unproven_quota) {
    const uint32_t slot = oldest(owners, count, [&](Owner* owner) { return find_unproven(owner); });
    if (slot != kNone) return may_go(slot);
  }
  if (all >= quota) {
    return may_go(oldest(owners, count, [&](Owner* owner) { return find_expendable(owner, whose, now_ms); }));
  }
  const bool is_tracked = whose == Of::tracked;
  const bool has_reached_reserved = !is_tracked && size() - tracked() + limits_.reserved >= limits_.connections;
  if (size() < limits_.connections && !has_reached_reserved) return kFree;
  if (const uint32_t slot = find_of_all(whose, now_ms); slot != kNone) return slot;
  if (is_tracked)
    return unproven < limits_.guaranteed ? find_of_fullest(static_cast<uint32_t>(all) + 1, now_ms) : kNone;
  return tracked() > limits_.reserved ? find_of_fullest(0, now_ms) : kNone;
}

template <typename FindOne>
uint32_t ConnectionTable::oldest(const uint32_t* owners, size_t count, FindOne find_one) {
  uint32_t oldest = kNone;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t slot = find_one(&owners_[owners[i]]);
    if (slot == kNone) continue;
    if (oldest == kNone || records_[slot].generation < records_[oldest].generation) oldest = slot;
  }
  return oldest;
}

// The next call looks at other connections.
void ConnectionTable::look_on(Owner* owner) {
  for (uint32_t looked = 0; looked < kLookedOn; ++looked) {
    const uint32_t at = owner->hand ? owner->hand : owner->unproven.first;
    if (!at) return;
    owner->hand = records_[at - 1].next;
    if (!is_expendable(records_[at - 1])) prove(owner, at - 1);
  }
}

void ConnectionTable::prove(Owner* owner, uint32_t slot) {
  leave_unproven(owner, slot);
  records_[slot].proven = 1;
  append(&owner->proven, slot);
}

void ConnectionTable::leave_unproven(Owner* owner, uint32_t slot) {
  if (owner->hand == slot + 1) owner->hand = records_[slot].next;
  remove(&owner->unproven, slot);
}

// The oldest connection that has never been in use. Marks those that it finds in use as proven.
uint32_t ConnectionTable::find_unproven(Owner* owner) {
  for (uint32_t looked = 0; looked < kUnprovenLooked && owner->unproven.first; ++looked) {
    const uint32_t slot = owner->unproven.first - 1;
    if (is_expendable(records_[slot])) return slot;
    prove(owner, slot);
  }
  return kNone;
}

// The same, or else one that is over or a quiet tracked one. Those found in use are looked at last from now on.
uint32_t ConnectionTable::find_expendable(Owner* owner, Of whose, double now_ms) {
  if (const uint32_t slot = find_unproven(owner); slot != kNone) return slot;
  if (whose == Of::tracked && now_ms < owner->search_from_ms) return kNone;
  for (uint32_t looked = 0; looked < kProvenLooked && owner->proven.first; ++looked) {
    const uint32_t slot = owner->proven.first - 1;
    if (is_expendable(records_[slot]) || is_quiet(records_[slot], now_ms)) return slot;
    remove(&owner->proven, slot);
    append(&owner->proven, slot);
  }
  if (whose == Of::tracked) owner->search_from_ms = now_ms + kSearchAgainMs;
  return kNone;
}

// A connection of any owner that is over or quiet, for when all slots are taken: a clock, whose hand has just passed the latest
// connections. As long as there are more tracked ones than are left to these, no other one gives way.
uint32_t ConnectionTable::find_of_all(Of whose, double now_ms) {
  if (whose == Of::tracked && now_ms < search_from_ms_) return kNone;
  const bool of_tracked = tracked() > limits_.reserved;
  const uint32_t most = std::min(whose == Of::tracked ? kAllLookedSeldom : kAllLooked, used_);
  for (uint32_t looked = 0; looked < most; ++looked) {
    const uint32_t slot = hand_;
    hand_ = (hand_ + 1) % used_;
    if (!is_used(slot) || !may_take_place(whose, slot)) continue;
    if (whose != Of::tracked && is_tracked(slot) != of_tracked) continue;
    if (is_expendable(records_[slot]) || is_quiet(records_[slot], now_ms)) return slot;
  }
  if (whose == Of::tracked) search_from_ms_ = now_ms + kSearchAgainMs;
  return kNone;
}

// A connection of the owner that has the most tracked ones, if these are more than so many: one that is over or quiet, or else
// the one that has not been looked at for longest.
uint32_t ConnectionTable::find_of_fullest(uint32_t more_than, double now_ms) {
  const uint32_t number = fullest();
  if (number == kNone || owners_[number].size() <= more_than) return kNone;
  Owner& owner = owners_[number];
  if (const uint32_t slot = find_expendable(&owner, Of::tracked, now_ms); slot != kNone) return slot;
  return (owner.proven.first ? owner.proven.first : owner.unproven.first) - 1;
}

// Of some of those with about as many, so that it costs the same however many there are.
uint32_t ConnectionTable::fullest() const {
  uint32_t fullest = kNone;
  for (size_t n = std::size(by_size_) - 1; n > 0 && fullest == kNone; --n) {
    uint32_t at = by_size_[n].first;
    for (uint32_t looked = 0; looked < kOwnersLooked && at; ++looked, at = owners_[at - 1].next) {
      if (fullest == kNone || owners_[at - 1].size() > owners_[fullest].size()) fullest = at - 1;
    }
  }
  return fullest;
}

std::vector<uint32_t> ConnectionTable::owned(uint32_t owner) {
  std::lock_guard guard(mutex_);
  std::vector<uint32_t> slots;
  for (const List* list : {&owners_[owner].unproven, &owners_[owner].proven}) {
    for (uint32_t at = list->first; at; at = records_[at - 1].next) slots.push_back(at - 1);
  }
  return slots;
}

}  // namespace weft
