#include "addon_connections.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

using namespace weft;

namespace {

uint32_t number(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }

// The first `count` numbers of a Uint32Array, each below kOwners.
std::vector<uint32_t> owners_of(const Napi::Value& value, size_t count) {
  auto array = value.As<Napi::Uint32Array>();
  std::vector<uint32_t> owners(array.Data(), array.Data() + std::min(count, array.ElementLength()));
  for (uint32_t& owner : owners) owner %= ConnectionTable::kOwners;
  return owners;
}

Napi::Value slots_of(Napi::Env env, const std::vector<uint32_t>& slots) {
  auto array = Napi::Uint32Array::New(env, slots.size());
  std::copy(slots.begin(), slots.end(), array.Data());
  return array;
}

// A slot; -1 if there is none.
Napi::Value slot_of(Napi::Env env, uint32_t slot) {
  return Napi::Number::New(env, slot == ConnectionTable::kNone ? -1 : static_cast<double>(slot));
}

}  // namespace

Napi::Function ConnectionsObject::Class(Napi::Env env) {
  return DefineClass(env, "Connections",
                     {
                         InstanceMethod("size", &ConnectionsObject::Size),
                         InstanceMethod("tracked", &ConnectionsObject::Tracked),
                         InstanceMethod("ended", &ConnectionsObject::Ended),
                         InstanceMethod("latest", &ConnectionsObject::Latest),
                         InstanceMethod("find", &ConnectionsObject::Find),
                         InstanceMethod("isTaken", &ConnectionsObject::IsTaken),
                         InstanceMethod("hasAnyIn", &ConnectionsObject::HasAnyIn),
                         InstanceMethod("room", &ConnectionsObject::Room),
                         InstanceMethod("open", &ConnectionsObject::Open),
                         InstanceMethod("close", &ConnectionsObject::Close),
                         InstanceMethod("setFlow", &ConnectionsObject::SetFlow),
                         InstanceMethod("claim", &ConnectionsObject::Claim),
                         InstanceMethod("addTable", &ConnectionsObject::AddTable),
                         InstanceMethod("removeTable", &ConnectionsObject::RemoveTable),
                         InstanceMethod("balancedTo", &ConnectionsObject::BalancedTo),
                         InstanceMethod("balancedBy", &ConnectionsObject::BalancedBy),
                         InstanceMethod("end", &ConnectionsObject::End),
                         InstanceMethod("noteTold", &ConnectionsObject::NoteTold),
                         InstanceMethod("owned", &ConnectionsObject::Owned),
                         InstanceMethod("closeOwned", &ConnectionsObject::CloseOwned),
                         InstanceMethod("expire", &ConnectionsObject::Expire),
                         InstanceMethod("recover", &ConnectionsObject::Recover),
                         InstanceMethod("adopt", &ConnectionsObject::Adopt),
                     });
}

// (memory, asked: ConnectionOpening, limit, quota, unprovenQuota, guaranteed, reserved)
ConnectionsObject::ConnectionsObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ConnectionsObject>(info) {
  auto memory = info[0].As<Napi::Uint8Array>();
  auto asked = info[1].As<Napi::Uint8Array>();
  if (memory.ByteLength() < sizeof(Connection) || asked.ByteLength() < sizeof(ConnectionOpening)) {
    Napi::RangeError::New(info.Env(), "no memory for connections").ThrowAsJavaScriptException();
    return;
  }
  memory_ = Napi::Persistent(memory);
  asked_memory_ = Napi::Persistent(asked);
  asked_ = reinterpret_cast<ConnectionOpening*>(asked.Data());
  uint64_t seed = 0;
  while (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
  }
  const ConnectionLimits limits = {number(info[2]), number(info[3]), number(info[4]), number(info[5]),
                                   number(info[6])};
  table_ = std::make_unique<ConnectionTable>(memory.Data(), memory.ByteLength(), limits, seed);
}

// () → the number of connections
Napi::Value ConnectionsObject::Size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(table_->size()));
}

// () → the number of those that are only tracked
Napi::Value ConnectionsObject::Tracked(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(table_->tracked()));
}

// () → the number of those that weft has ended
Napi::Value ConnectionsObject::Ended(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(table_->ended()));
}

// () → the generation of the latest connection
Napi::Value ConnectionsObject::Latest(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), table_->latest());
}

// () : looks for the original tuple, its place and protocol → 2 · slot, plus 1 for the reply direction | -1. The generation
// takes the place of the first place.
Napi::Value ConnectionsObject::Find(const Napi::CallbackInfo& info) {
  const TupleKey key = {asked_->original, asked_->places[0], asked_->protocol};
  return slot_of(info.Env(), table_->find_handle(key, &asked_->places[0]));
}

// () : looks for the original tuple, its place and protocol → true if no connection has it, but one goes on with it
Napi::Value ConnectionsObject::IsTaken(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), table_->is_taken({asked_->original, asked_->places[0], asked_->protocol}));
}

// (place) → true if packets of connections may come in there
Napi::Value ConnectionsObject::HasAnyIn(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), table_->has_any_in(number(info[0])));
}

// (owners: Uint32Array, how many of them, quota, unprovenQuota) → the slot that can be given up | -1: there is room | -2: there is none.
// The generation of the slot is left where the first place is.
Napi::Value ConnectionsObject::Room(const Napi::CallbackInfo& info) {
  const std::vector<uint32_t> owners = owners_of(info[0], number(info[1]));
  const uint32_t room =
      table_->room(owners.data(), owners.size(), number(info[2]), number(info[3]), &asked_->places[0]);
  const double slot = room == ConnectionTable::kFree ? -1 : room == ConnectionTable::kNone ? -2 : static_cast<double>(room);
  return Napi::Number::New(info.Env(), slot);
}

// (owner, ms, two to give up for it: slot and generation of each, which is 0 for none) → slot | -1
Napi::Value ConnectionsObject::Open(const Napi::CallbackInfo& info) {
  const auto given_up = [&](size_t at) { return ConnectionTable::GivenUp{number(info[at]), number(info[at + 1])}; };
  const uint32_t owner = number(info[0]) % ConnectionTable::kOwners;
  const double now_ms = info[1].As<Napi::Number>();
  return slot_of(info.Env(), table_->open(*asked_, owner, now_ms, {given_up(2), given_up(4)}));
}

// (slot, generation)
void ConnectionsObject::Close(const Napi::CallbackInfo& info) { table_->close(number(info[0]), number(info[1])); }

// (slot, generation, is of replies, flow)
void ConnectionsObject::SetFlow(const Napi::CallbackInfo& info) {
  table_->set_flow(number(info[0]), number(info[1]), info[2].As<Napi::Boolean>(), number(info[3]));
}

// (slot, generation) → false if the slot has another connection by now
Napi::Value ConnectionsObject::Claim(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), table_->claim(number(info[0]), number(info[1])));
}

// (id, by client: boolean, first port, quota, unprovenQuota, slots: Uint16Array, backends: BalancedBackend as a Uint8Array)
// → false if it is not valid
Napi::Value ConnectionsObject::AddTable(const Napi::CallbackInfo& info) {
  auto slots = info[5].As<Napi::Uint16Array>();
  auto backends = info[6].As<Napi::Uint8Array>();
  BalancingTable table = {info[1].As<Napi::Boolean>(), static_cast<uint16_t>(number(info[2])), number(info[3]),
                          number(info[4]), {slots.Data(), slots.Data() + slots.ElementLength()}, {}};
  table.backends.resize(backends.ByteLength() / sizeof(BalancedBackend));
  if (!table.backends.empty()) memcpy(table.backends.data(), backends.Data(), table.backends.size() * sizeof(BalancedBackend));
  const bool is_valid = number(info[0]) != 0 && table.is_valid();
  if (is_valid) table_->add_table(number(info[0]), std::move(table));
  return Napi::Boolean::New(info.Env(), is_valid);
}

// (id)
void ConnectionsObject::RemoveTable(const Napi::CallbackInfo& info) { table_->remove_table(number(info[0])); }

// (pin) → how many of the connections that workers may close go to that backend
Napi::Value ConnectionsObject::BalancedTo(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), table_->balanced_to(number(info[0])));
}

// (id) → how many of them that table chose
Napi::Value ConnectionsObject::BalancedBy(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), table_->balanced_by(number(info[0])));
}

// (slot, ms, generation, verdict)
void ConnectionsObject::End(const Napi::CallbackInfo& info) {
  const auto verdict = static_cast<uint8_t>(number(info[3]));
  table_->end(number(info[0]), info[1].As<Napi::Number>(), number(info[2]), verdict);
}

// (slot, generation)
void ConnectionsObject::NoteTold(const Napi::CallbackInfo& info) {
  table_->note_told(number(info[0]), number(info[1]));
}

// (owner) → slots
Napi::Value ConnectionsObject::Owned(const Napi::CallbackInfo& info) {
  return slots_of(info.Env(), table_->owned(number(info[0]) % ConnectionTable::kOwners));
}

// (owner, how many at most, the generation of the last one) : closes those of a port → how many
Napi::Value ConnectionsObject::CloseOwned(const Napi::CallbackInfo& info) {
  const uint32_t owner = number(info[0]) % ConnectionTable::kOwners;
  return Napi::Number::New(info.Env(), table_->close_owned(owner, number(info[1]), number(info[2])));
}

// (ms) → slots of those that are due, except those that are only tracked
Napi::Value ConnectionsObject::Expire(const Napi::CallbackInfo& info) {
  return slots_of(info.Env(), table_->expire(info[0].As<Napi::Number>()));
}

// (ms) → slots of those to adopt
Napi::Value ConnectionsObject::Recover(const Napi::CallbackInfo& info) {
  return slots_of(info.Env(), table_->recover(info[0].As<Napi::Number>()));
}

// (slot, owner) : adopts a slot that `recover` returned
void ConnectionsObject::Adopt(const Napi::CallbackInfo& info) {
  table_->adopt(number(info[0]), number(info[1]) % ConnectionTable::kOwners);
}
