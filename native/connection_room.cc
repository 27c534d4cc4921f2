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
// How many of all owners, if what is wanted is a tracked one and there may be few.
constexpr uint32_t kTrackedLooked = 256;
// How long a tracked connection that found nothing to give up keeps others from searching in vain.
constexpr double kSearchAgainMs = 1;
// How many unproven ones are looked at before each new connection, so that they are seen in use before there are too
// many.
constexpr uint32_t kLookedOn = 8;

}  // namespace

uint32_t ConnectionTable::room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota) {
  std::lock_guard guard(mutex_);
  for (size_t i = 0; i < count; ++i) look_on(&owners_[owners[i]]);
  return room(owners, count, quota, unproven_quota, Of::any, 0);
}

uint32_t ConnectionTable::room(const uint32_t* owners, size_t count, uint32_t quota, uint32_t unproven_quota,
                               Of whose, double now_ms) {
  const auto may_go = [&](uint32_t slot) { return slot != kNone && may_take_place(whose, slot) ? slot : kNone; };
  size_t unproven = 0, all = 0;
  for (size_t i = 0; i < count; ++i) {
    const Owner& owner = owners_[owners[i]];
    unproven += owner.unproven.size;
    all += owner.unproven.size + owner.proven.size;
  }
  if (unproven >= unproven_quota) {
    const uint32_t slot = oldest(owners, count, [&](Owner* owner) { return find_unproven(owner); });
    if (slot != kNone) return may_go(slot);
  }
  if (all >= quota) {
    return may_go(oldest(owners, count, [&](Owner* owner) { return find_expendable(owner, whose, now_ms); }));
  }
  return size() < limits_.connections ? kFree : find_of_all(whose, now_ms);
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

// A connection of any owner, for when all slots are taken: a clock, whose hand has just passed the latest connections. As long
// as there are tracked ones, only these give way: one that is over or quiet, or else, unless it is for another tracked one, the
// first one. If there are so few that none is among many, it is one of the others that is over.
uint32_t ConnectionTable::find_of_all(Of whose, double now_ms) {
  if (whose == Of::tracked && now_ms < search_from_ms_) return kNone;
  const bool others_stay = tracked() > 0;
  const uint32_t most = others_stay && whose != Of::tracked ? kTrackedLooked : kAllLooked;
  uint32_t in_use = kNone, other = kNone;
  for (uint32_t looked = 0; looked < std::min(most, used_); ++looked) {
    if (looked >= kAllLooked && in_use != kNone) break;
    const uint32_t slot = hand_;
    if (is_used(slot) && may_take_place(whose, slot)) {
      const bool gives_way = is_expendable(records_[slot]) || is_quiet(records_[slot], now_ms);
      const bool stays = others_stay && !is_tracked(slot);
      if (gives_way && !stays) return slot;
      if (gives_way && other == kNone) other = slot;
      if (is_tracked(slot) && whose != Of::tracked && in_use == kNone) in_use = slot;
    }
    hand_ = (hand_ + 1) % used_;
  }
  if (whose == Of::tracked) search_from_ms_ = now_ms + kSearchAgainMs;
  return in_use != kNone ? in_use : other;
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
