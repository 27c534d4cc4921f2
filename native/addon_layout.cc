// The numbers, offsets and names that this addon was built with. src/addon/layout.ts compares them with those of the
// program.
#include <napi.h>

#include <cstddef>

#include "addon_connections.h"
#include "workers.h"

using namespace weft;

// The layout, which src/addon/layout.ts compares with the tables of TypeScript.
Napi::Object LayoutObject(Napi::Env env) {
  const auto number = [env](size_t value) { return Napi::Number::New(env, static_cast<double>(value)); };
  auto layout = Napi::Object::New(env);
  auto fields = Napi::Object::New(env);
  for (const Field& field : kFields) {
    auto place = Napi::Array::New(env, 2);
    place[0u] = number(field.offset);
    place[1u] = number(field.size);
    fields[field.name] = place;
  }
  layout["fields"] = fields;

  auto opcodes = Napi::Object::New(env);
  opcodes["output"] = number(static_cast<size_t>(Op::output));
  opcodes["encap"] = number(static_cast<size_t>(Op::encap));
  opcodes["drop"] = number(static_cast<size_t>(Op::drop));
  opcodes["consume"] = number(static_cast<size_t>(Op::consume));
  opcodes["route"] = number(static_cast<size_t>(Op::route));
  opcodes["echo"] = number(static_cast<size_t>(Op::echo));
  opcodes["mtu"] = number(static_cast<size_t>(Op::mtu));
  opcodes["nat"] = number(static_cast<size_t>(Op::nat));
  opcodes["related"] = number(static_cast<size_t>(Op::related));
  opcodes["clamp"] = number(static_cast<size_t>(Op::clamp));
  opcodes["track"] = number(static_cast<size_t>(Op::track));
  opcodes["refuse"] = number(static_cast<size_t>(Op::refuse));
  opcodes["balance"] = number(static_cast<size_t>(Op::balance));
  opcodes["count"] = number(static_cast<size_t>(Op::count));
  layout["opcodes"] = opcodes;

  auto refusals = Napi::Array::New(env, kAnswers);
  for (uint32_t i = 0; i < kAnswers; ++i) refusals[i] = Napi::String::New(env, kAnswerNames[i]);
  layout["refusals"] = refusals;

  auto reasons = Napi::Array::New(env, kReasons);
  for (uint32_t i = 0; i < kReasons; ++i) reasons[i] = Napi::String::New(env, kReasonNames[i]);
  layout["reasons"] = reasons;

  auto numbers = Napi::Object::New(env);
  numbers["INTERNAL"] = number(kInternal);
  numbers["PROBE_VNI"] = number(kProbeVni);
  numbers["PROBE_VNIS"] = number(kProbeVnis);
  numbers["KEY_BYTES"] = number(kKeyBytes);
  numbers["ACTION_BYTES"] = number(kActionBytes);
  numbers["PENDING_PER_PORT"] = number(kPendingPerPort);
  numbers["PENDING_BALANCED_PER_PORT"] = number(kPendingBalancedPerPort);
  numbers["PARKED_PER_FLOW"] = number(kParkedPerFlow);
  numbers["PARKED_FRAGMENTS"] = number(kParkedFragments);
  numbers["DATAGRAMS_PER_PORT"] = number(kDatagramsPerPort);
  numbers["WAITING_PER_DATAGRAM"] = number(kWaitingPerDatagram);
  numbers["WAITING_BYTES_PER_PORT"] = number(kWaitingBytesPerPort);
  numbers["FRAGMENT_TIMEOUT_MS"] = number(static_cast<size_t>(kFragmentTimeoutMs));
  numbers["MASK_CAP"] = number(kMaskCap);
  numbers["HEAD_BYTES"] = number(kHeadBytes);
  numbers["UPCALL_BATCH"] = number(kUpcallBatch);
  numbers["ENTROPY_PORTS"] = number(kEntropyPorts);
  numbers["ENTROPY_FIRST_PORT"] = number(kEntropyFirstPort);
  numbers["CONNECTION_BYTES"] = number(sizeof(Connection));
  numbers["CONNECTION_OPENING_BYTES"] = number(sizeof(ConnectionOpening));
  numbers["CONNECTION_OWNERS"] = number(ConnectionTable::kOwners);
  numbers["FIRST_FREE_OWNER"] = number(ConnectionTable::kFirstFreeOwner);
  numbers["CONNECTION_PLACES"] = number(offsetof(Connection, places));
  numbers["CONNECTION_OWNER"] = number(offsetof(Connection, owner));
  numbers["CONNECTION_ORIGINAL"] = number(offsetof(Connection, original));
  numbers["CONNECTION_TRANSLATED"] = number(offsetof(Connection, translated));
  numbers["CONNECTION_PIN"] = number(offsetof(Connection, pin));
  numbers["CONNECTION_TABLE"] = number(offsetof(Connection, table));
  numbers["BALANCED_BACKEND_BYTES"] = number(sizeof(BalancedBackend));
  numbers["BALANCE_OWNERS"] = number(kBalanceOwners);
  numbers["CONNECTION_VIA"] = number(offsetof(Connection, via));
  numbers["CONNECTION_HALF"] = number(offsetof(Connection, original_half));
  numbers["CONNECTION_REPLY_HALF"] = number(offsetof(Connection, reply_half));
  numbers["CONNECTION_HALF_FLOW"] = number(offsetof(ConnectionHalf, flow));
  numbers["CONNECTION_HALF_TREATMENT"] = number(offsetof(ConnectionHalf, treatment));
  numbers["CONNECTION_HALF_PORT"] = number(offsetof(ConnectionHalf, port));
  numbers["CONNECTION_OPENING_PORT"] = number(offsetof(ConnectionOpening, port));
  numbers["CONNECTION_OPENING_TREATMENT"] = number(offsetof(ConnectionOpening, treatment));
  numbers["TREATMENT_BYTES"] = number(sizeof(Treatment));
  layout["numbers"] = numbers;
  return layout;
}
