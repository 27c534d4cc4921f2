// Floods that are sent in parts: frames to so many destinations that sending each of them takes milliseconds.
//
// Where a datapath has a thread (Datapath::flood_in_parts), a frame whose flow has more than kFloodedAtOnce
// actions waits in order, and so do parked ones that are answered by such a flow. The thread sends them, one
// after the other, kFloodedAtOnce destinations at a time (Worker::flood), and in between the controlling thread
// gets its turn: it does not wait for a flood, and sends only the rest of one whose flow it changes. After some milliseconds
// the thread looks at the ports again.
//
// So much may wait of one port, and no more than there is room left for: so others always find some (a dynamic threshold). A TAP is
// read no further than that (Worker::receive), and its frames wait in the kernel. What comes from the tunnel, or is answered,
// and finds no room is dropped as by storm control. And while many answers wait, no more upcalls about frames to groups are
// taken: their answers would only wait behind them.
//
// A frame that waits is decided when it comes first, as if it arrived then. So what was decided before a change
// is never sent after it. The one that is being sent is sent to the end before a change of its flow is in force,
// as a frame is that goes on at once. If the flow of an answer has gone by then, it is an upcall again, which does not
// count towards the rate of its port a second time.
//
// Owned by one datapath, like everything in it, and so used only by whoever has its turn; not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "action.h"
#include "frame.h"
#include "key.h"
#include "pending.h"

namespace weft {

inline constexpr size_t kFloodedAtOnce = 16;
inline constexpr size_t kFloodsOfPort = 64, kFloodsOfTunnel = 512, kFloods = 1024;
inline constexpr size_t kManyAnswers = 128;

struct WaitingFlood {
  ParkedFrame frame;
  Words key;
  uint16_t from = 0;       // the port that it came in by
  bool is_answer = false;  // it was parked, so its flow does not count it
};

struct Floods {
  std::deque<WaitingFlood> waiting;
  size_t answers = 0;  // of those that wait, and the one that is being sent

  // The one that is being sent, if some of its actions are left. It has what it needs of its flow.
  WaitingFlood first;
  Frame frame;  // of `first`, as its actions have prepared it
  Key key = {};
  uint32_t flow = 0;
  std::vector<Action> actions;
  size_t at = 0;  // the next action

  bool is_sending() const { return at < actions.size(); }
  bool empty() const { return !is_sending() && waiting.empty(); }
  // How many of a port wait.
  size_t of(uint16_t from) const {
    const auto is_its = [&](const WaitingFlood& flood) { return flood.from == from; };
    return static_cast<size_t>(std::count_if(waiting.begin(), waiting.end(), is_its));
  }
  // How many more find room, of which `most` may wait.
  size_t room(uint16_t from, size_t most) const {
    const size_t own = of(from), free = kFloods - waiting.size();
    // Each takes one of those that are free, too.
    return std::min(own < most ? most - own : 0, own < free ? (free - own + 1) / 2 : 0);
  }
  // Copies and frames that are not sent yet.
  size_t held() const { return waiting.size() + actions.size() - at; }
  // True if it is still to be sent to this port.
  bool is_for(uint16_t port) const {
    for (size_t i = at; i < actions.size(); ++i) {
      if (actions[i].op == Op::output && actions[i].argument == port) return true;
    }
    return false;
  }
};

}  // namespace weft
