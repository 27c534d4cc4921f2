// Balancing: the backend of a new connection through a service, without a decision.
//
// A balancing table is what src/table/balancer.ts has made for the clients of one service port in one network: slots, in
// which the hash of a connection finds its backend. JavaScript chooses by the same table, and its hashes are the same
// (src/flow/balancing.ts), so it does not matter who opens a connection. A table never changes: when a backend comes or
// goes, there is another one with another id.
//
// BalancedWays remembers which flows the connections of a client to a backend take, so that the next one begins with them.
// It is a guess, as everywhere: a connection takes a flow only for packets that it covers. What else a decision about
// such a packet depends on is the same for all connections with the same entry: their places, their ends but for the port
// of the client, and their protocol.
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
    uint32_t flow;  // the one that balanced its connections; 0: none yet
    uint32_t pin;
    uint32_t replies;
    // A connection whose flows are looked at.
    uint32_t slot, generation;
    uint32_t flows[2];  // the ids that were seen there last, by direction; 0: none yet
    uint32_t zero;
  };

  BalancedWays() : ways_(kWays) {}

  // The entry for connections like this one, which this flow has balanced. It may have been that of others.
  Way& of(uint32_t flow, const Connection& connection) {
    const uint32_t pin = connection.pin, replies = connection.places[1];
    Way& way = ways_[(flow * 0x9e3779b1u ^ pin * 0x85ebca6bu) >> kShift];
    if (way.flow != flow || way.pin != pin || way.replies != replies) way = {flow, pin, replies, 0, 0, {}, 0};
    return way;
  }

 private:
  // As many as src/datapath/reference/balancing.ts has.
  static constexpr unsigned kShift = 18;
  static constexpr size_t kWays = size_t{1} << (32 - kShift);

  ZeroedArray<Way> ways_;
};

}  // namespace weft
