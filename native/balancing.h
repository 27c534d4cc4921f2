// Balancing: the backend of a new connection through a service, without a decision.
//
// A balancing table is what src/table/balancer.ts has made for the clients of one service port in one network: slots, in
// which the hash of a connection finds its backend. JavaScript chooses by the same table, and its hashes are the same
// (src/flow/balancing.ts), so it does not matter who opens a connection. A table never changes: when a backend comes or
// goes, there is another one with another id.
//
// BalancedWays remembers which flows the connections of a client to a backend take, so that the next one needs no decision about its
// first packets. It is a guess, as everywhere: a connection takes a flow only for packets that it covers. What else a decision about
// such a packet depends on is the same for all connections with the same entry: their places, their ends but for the port
// of the client, and their protocol.
//
// Which flow that is, is seen at the first connection one of whose packets was decided about, when that packet goes on. Many may
// begin at once, and few of their packets may be decided about, so no other one is waited for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "connection.h"
#include "zeroed_array.h"

namespace weft {

// The flows of connections with a client and a backend in common. Owned by a datapath, so not thread-safe.
class BalancedWays {
 public:
  struct Way {
    uint32_t table, owner, pin;
    uint32_t service;   // protocol and port
    uint32_t flows[2];  // the ids that were seen last, by direction; 0: none yet
  };

  BalancedWays() : ways_(kWays) {}

  // The entry for connections like this one; null if no balancing table chose it. It may have been that of others.
  Way* of(Connection& connection) {
    const uint32_t table = relaxed_load(connection.table), owner = connection.owner, pin = connection.pin;
    if (table == 0) return nullptr;
    const uint32_t service = uint32_t{connection.protocol} << 16 | load16(connection.original.destination_port);
    const uint32_t hash = table * 0x9e3779b1u ^ pin * 0x85ebca6bu ^ owner * 0xc2b2ae35u ^ service * 0x27d4eb2fu;
    Way& way = ways_[hash >> kShift];
    const bool is_its = way.table == table && way.owner == owner && way.pin == pin && way.service == service;
    if (!is_its) way = {table, owner, pin, service, {}};
    return &way;
  }

 private:
  // As many as src/datapath/reference/balancing.ts has.
  static constexpr unsigned kShift = 18;
  static constexpr size_t kWays = size_t{1} << (32 - kShift);

  ZeroedArray<Way> ways_;
};

}  // namespace weft
