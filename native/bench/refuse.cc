// Refused frames through the datapath: what one costs that is dropped, that a TCP reset or an ICMP error
// answers, and that gets no answer because the rate is used up. Frames are SYNs and TCP segments of 1500 bytes;
// they are written before their time is taken, and answers go to a port in memory.
#include <stdio.h>
#include <stdlib.h>

#include <cstring>
#include <memory>
#include <vector>

#include "../checksum.h"
#include "../datapath.h"
#include "bench.h"

using namespace weft;

namespace {

constexpr size_t kBurst = 32;
constexpr size_t kBlock = 256;
constexpr size_t kBlocks = 300;
constexpr size_t kTurns = 9;
constexpr uint32_t kFrame = 1514;

// A SYN without payload, or a segment with it, over IPv4.
void write_frame(uint8_t* frame, uint32_t length, uint32_t number) {
  static const uint8_t kStart[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0,
                                   10, 0, 0, 1, 10, 0, 0, 2};
  memset(frame, 0, length);
  memcpy(frame, kStart, sizeof kStart);
  store16(frame + 16, length - 14);
  store16(frame + 34, 1024 + number % 50'000);
  store16(frame + 36, 80);
  store32(frame + 38, number);
  frame[46] = 0x50;
  frame[47] = length > 54 ? 0x10 : 2;
  OnesSum sum;
  sum.add(frame + 14, 20);
  store16(frame + 24, sum.checksum());
}

// One port, and one flow for everything that comes in by it.
struct Switch {
  Switch(const Action& action, uint64_t answers) : datapath(1000, nullptr, 1, 0, hooks()) {
    auto port = std::make_unique<Port>();
    port->number = 1;
    port->answers = bucket_of({.per_second = answers, .burst = 1});
    if (datapath.add_port(std::move(port))) abort();
    datapath.flow_put(1, Words{}, Words{}, &action, 1);
  }

  MemoryHooks hooks() {
    MemoryHooks hooks;
    hooks.transmit = [this](uint16_t, const Frame&) { ++sent; };
    return hooks;
  }

  uint64_t sent = 0;
  Datapath datapath;
};

// Nanoseconds for a frame of this length.
double frame_ns(Switch* by, uint32_t length) {
  std::vector<uint8_t> bytes(kBlock * kFrame);
  std::vector<Frame> frames(kBlock);
  std::vector<double> took;
  uint32_t number = 0;
  for (size_t block = 0; block < kBlocks; ++block) {
    for (size_t i = 0; i < kBlock; ++i) {
      write_frame(bytes.data() + kFrame * i, length, number += 7);
      frames[i] = {bytes.data() + kFrame * i, length, {}};
    }
    const double from = now_ns();
    for (size_t at = 0; at < kBlock; at += kBurst) {
      const size_t arrivals = by->datapath.receive(1, frames.data() + at, kBurst);
      for (size_t i = 0; i < arrivals; ++i) by->datapath.forward(1, i);
    }
    took.push_back((now_ns() - from) / kBlock);
  }
  return median(&took);
}

Action refuse(Answer answer) {
  return {Op::refuse, {}, static_cast<uint32_t>(Reason::no_route) | static_cast<uint32_t>(answer) << 8,
          {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 254}};
}

struct Subject {
  const char* name;
  Action action;
  uint32_t length;
  uint64_t answers = 0;  // a second; 0: no limit
  std::vector<double> ns = {};
};

}  // namespace

int main() {
  const Action drop = {Op::drop, {}, static_cast<uint32_t>(Reason::no_route), {}};
  Subject subjects[] = {
      {"SYN, dropped", drop, 54},
      {"SYN, answered by a TCP reset", refuse(Answer::tcp_reset), 54},
      {"SYN, answered by an ICMP error", refuse(Answer::port_unreachable), 54},
      {"SYN, beyond the rate of answers", refuse(Answer::tcp_reset), 54, 1},
      {"1500 bytes, answered by an ICMP error", refuse(Answer::port_unreachable), kFrame},
  };
  for (size_t turn = 0; turn < kTurns; ++turn) {
    for (Subject& subject : subjects) {
      Switch by(subject.action, subject.answers);
      subject.ns.push_back(frame_ns(&by, subject.length));
      const bool answers = subject.action.op == Op::refuse && !subject.answers;
      if (answers ? by.sent != kBlocks * kBlock : by.sent > 1) abort();
    }
  }
  printf("%-52s%10s%16s\n", "refused frames through the datapath", "ns", "a second");
  for (Subject& subject : subjects) {
    const double ns = median(&subject.ns);
    printf("%-52s%10.1f%16.0f\n", subject.name, ns, 1e9 / ns);
  }
}
