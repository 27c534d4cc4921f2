// What the table of connections does with those that a balancing table chooses.
#include <algorithm>
#include <utility>

#include "connection_table.h"

namespace weft {

void ConnectionTable::add_table(uint32_t id, BalancingTable table) {
  std::lock_guard guard(mutex_);
  tables_.insert_or_assign(id, std::move(table));
}

void ConnectionTable::remove_table(uint32_t id) {
  std::lock_guard guard(mutex_);
  tables_.erase(id);
}

ConnectionTable::Found ConnectionTable::open_balanced(uint32_t id, const uint32_t (&owners)[kBalanceOwners],
                                                      const TupleKey& key, double now_ms, uint32_t port) {
  std::lock_guard guard(mutex_);
  const auto found = tables_.find(id);
  if (found == tables_.end()) return {};
  const BalancingTable& table = found->second;
  const auto protocol = static_cast<uint8_t>(key.protocol);
  const BalancedBackend& backend = table.backend_of(key.tuple, protocol);
  if (backend.replies == kUnknownPlace) return {};
  if (memcmp(backend.address, key.tuple.source, sizeof backend.address) == 0) return {};

  const Found rival = probe(key, hash(key));
  if (rival && (rival.reply || rival.at->table == 0 || !is_over(*rival.at))) return {};
  const ConnectionOpening opening = {{key.place, backend.replies}, protocol, ConnectionKind::translated, {}, key.tuple,
                                     table.translated(key.tuple, backend), backend.pin, {}, id, {}, port};
  const TupleKey reply = name(opening, kReply);
  if (const Found taken = probe(reply, hash(reply)); taken && taken.slot != rival.slot) return {};
  // The client may talk straight to the backend, wherever the replies to that come in.
  const TupleKey direct = name(opening, kTaken);
  if (const Found known = probe(direct, hash(direct)); known && !known.reply && is_tracked(known.slot)) return {};

  size_t count = 0;
  while (count < kBalanceOwners && owners[count] != 0) look_on(&owners_[owners[count++]]);
  const uint32_t goes = room(owners, count, table.quota, table.unproven_quota, Of::workers, now_ms);
  if (goes == kNone) return {};
  if (is_refused(goes, protocol, owners, count, table.unproven_quota, now_ms)) return {.refused = true};
  const uint32_t also = rival.slot == goes ? kNone : rival.slot;
  const uint32_t slot = put(opening, owners[0], now_ms, {given_up(goes), given_up(also)});
  return slot == kNone ? Found{} : Found{&records_[slot], slot, records_[slot].generation, false};
}

// True if the connection in that slot is one of these owners that was never established, and may not be given up now for one with
// this protocol: `unproven_quota` of them may be at once, and a second. If it may be, it counts.
bool ConnectionTable::is_refused(uint32_t slot, uint8_t protocol, const uint32_t* owners, size_t count, uint32_t unproven_quota,
                                 double now_ms) {
  constexpr uint8_t kTcp = 6;
  constexpr double kAheadMs = 1000;
  if (slot == kFree || protocol != kTcp || was_established(records_[slot])) return false;
  if (std::find(owners, owners + count, records_[slot].owner) == owners + count) return false;
  const auto has_reached = [&](uint32_t owner) { return owners_[owner].given_up_until_ms - now_ms >= kAheadMs; };
  if (std::any_of(owners, owners + count, has_reached)) return true;
  for (size_t i = 0; i < count; ++i) {
    double& until_ms = owners_[owners[i]].given_up_until_ms;
    until_ms = std::max(until_ms, now_ms) + kAheadMs / std::max(unproven_quota, 1u);
  }
  return false;
}

bool ConnectionTable::claim(uint32_t slot, uint32_t generation) {
  std::lock_guard guard(mutex_);
  if (slot >= used_ || generation == 0 || records_[slot].generation != generation) return false;
  count_balanced(records_[slot], -1);
  relaxed_store(records_[slot].table, 0u);
  return true;
}

uint32_t ConnectionTable::balanced_to(uint32_t pin) const {
  std::lock_guard guard(mutex_);
  const auto found = balanced_to_.find(pin);
  return found == balanced_to_.end() ? 0 : found->second;
}

uint32_t ConnectionTable::balanced_by(uint32_t table) const {
  std::lock_guard guard(mutex_);
  const auto found = balanced_by_.find(table);
  return found == balanced_by_.end() ? 0 : found->second;
}

// Counts a connection that begins (1) or ends (-1), if it has a table.
void ConnectionTable::count_balanced(const Connection& connection, int by) {
  if (connection.table == 0) return;
  const auto count = [by](std::unordered_map<uint32_t, uint32_t>* counts, uint32_t key) {
    const auto at = counts->try_emplace(key, 0).first;
    at->second += static_cast<uint32_t>(by);
    if (at->second == 0) counts->erase(at);
  };
  count(&balanced_to_, connection.pin);
  count(&balanced_by_, connection.table);
}

}  // namespace weft
