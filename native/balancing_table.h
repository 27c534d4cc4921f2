// A balancing table: the backends of a service, and the slots in which the hash of a connection finds one of them.
// balancing.h says what it is for; connection_table.h has the tables that there are, under its lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "connection.h"
#include "key.h"

namespace weft {

// How many owners share the quota that a balanced connection counts towards, at most: the addresses of one workload.
inline constexpr size_t kBalanceOwners = 4;

// In place of a place: nobody knows where the replies of the backend come in, so JavaScript decides about its connections.
inline constexpr uint32_t kUnknownPlace = UINT32_MAX;

// One of the backends, in the form in which JavaScript passes it: src/flow/balancing.ts.
struct BalancedBackend {
  uint32_t pin;
  uint32_t replies;  // the place where its replies come in
  uint8_t address[16];
  uint16_t target;  // its port for the first port of the service
  uint16_t zero;
};
static_assert(sizeof(BalancedBackend) == 28);

// FNV-1a with the finalizer of MurmurHash3, as src/flow/balancing.ts has it.
class TupleHash {
 public:
  TupleHash& add(const uint8_t* bytes, size_t count) {
    for (size_t i = 0; i < count; ++i) hash_ = (hash_ ^ bytes[i]) * kPrime;
    return *this;
  }
  TupleHash& add(uint32_t number) {
    hash_ = (hash_ ^ (number & 0xffff)) * kPrime;
    hash_ = (hash_ ^ number >> 16) * kPrime;
    return *this;
  }
  uint32_t mixed() const { return murmur_mixed(hash_); }

 private:
  static constexpr uint32_t kPrime = 0x01000193;
  uint32_t hash_ = 0x811c9dc5;
};

// Distinguishes connections.
inline uint32_t tuple_hash(const Tuple& tuple, uint8_t protocol) {
  return TupleHash()
      .add(tuple.source, 16)
      .add(tuple.destination, 16)
      .add(protocol)
      .add(load16(tuple.source_port))
      .add(load16(tuple.destination_port))
      .add(0)
      .mixed();
}

// Distinguishes clients.
inline uint32_t client_hash(const Tuple& tuple) { return TupleHash().add(tuple.source, 16).mixed(); }

struct BalancingTable {
  bool by_client;       // every connection of a client gets the same backend
  uint16_t first_port;  // of the service: which backend's port belongs to it is its target
  // For the connections of one workload, and for those of them not seen in use.
  uint32_t quota, unproven_quota;
  std::vector<uint16_t> slots;  // positions of backends
  std::vector<BalancedBackend> backends;

  // Is there a backend in each slot?
  bool is_valid() const {
    if (slots.empty()) return false;
    for (const uint16_t at : slots) {
      if (at >= backends.size()) return false;
    }
    return true;
  }
  const BalancedBackend& backend_of(const Tuple& tuple, uint8_t protocol) const {
    const uint32_t hash = by_client ? client_hash(tuple) : tuple_hash(tuple, protocol);
    return backends[slots[hash % slots.size()]];
  }
  // What the packets of a connection become on their way to this backend.
  Tuple translated(const Tuple& original, const BalancedBackend& backend) const {
    Tuple to = original;
    memcpy(to.destination, backend.address, sizeof to.destination);
    store16(to.destination_port, backend.target + load16(original.destination_port) - first_port);
    return to;
  }
};

}  // namespace weft
