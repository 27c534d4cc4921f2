// Any fragments of a few datagrams in any order, with time passing in between, compared with a
// naive list of what came: exactly the fragments that the list lets go leave, in that order, with
// the flow of their first one, and each frame is accounted for. What has left of a datagram never
// overlaps, so whoever reassembles it gets what was decided, and nothing else.
#include <map>
#include <vector>

#include "../datapath.h"
#include "../extract.h"
#include "fuzz.h"

using namespace weft;

namespace {

using Bytes = std::vector<uint8_t>;

struct Part {
  uint32_t at;
  uint32_t bytes;
  bool more;
  uint32_t end() const { return at + bytes; }
};

// UDP to port 53 in the first fragment; everything behind that is `mark`.
Bytes frame_of(bool v4, uint8_t id, const Part& part, uint8_t mark) {
  Bytes frame = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, static_cast<uint8_t>(v4 ? 0x08 : 0x86),
                 static_cast<uint8_t>(v4 ? 0x00 : 0xdd)};
  const size_t l3 = frame.size();
  frame.resize(l3 + (v4 ? 20 : 48));
  uint8_t* header = frame.data() + l3;
  if (v4) {
    header[0] = 0x45;
    store16(header + 2, 20 + part.bytes);
    header[5] = id;
    store16(header + 6, part.at / 8 | (part.more ? 0x2000 : 0));
    header[9] = 17;
  } else {
    header[0] = 0x60;
    store16(header + 4, 8 + part.bytes);
    header[6] = 44;
    header[40] = 17;
    store16(header + 42, part.at | part.more);
    header[47] = id;
  }
  frame.resize(frame.size() + part.bytes, mark);
  if (part.at == 0) store16(frame.data() + frame.size() - part.bytes + 2, 53);
  return frame;
}

// A datagram as a naive list.
struct Naive {
  double since_ms;
  std::vector<Part> parts;
  std::vector<Bytes> waiting;
  bool has_first = false;
  bool is_discarded = false;

  bool contradicts(const Part& part) const {
    for (const Part& one : parts) {
      const Part& last = part.more ? one : part;
      const Part& other = part.more ? part : one;
      if (last.more) continue;
      if (other.more ? other.end() >= last.end() : other.end() != last.end()) return true;
    }
    return false;
  }
  bool has(const Part& part) const {
    for (const Part& one : parts) if (one.at == part.at && one.bytes == part.bytes) return true;
    return false;
  }
  bool overlaps(const Part& part) const {
    for (const Part& one : parts) if (one.at < part.end() && part.at < one.end()) return true;
    return false;
  }
  bool is_whole() const {
    uint32_t came = 0, total = 0;
    for (const Part& one : parts) {
      came += one.bytes;
      if (!one.more) total = one.end();
    }
    return came == total;
  }
};

struct World {
  std::map<uint32_t, Naive> datagrams;
  std::vector<Bytes> out;
  std::map<Reason, uint64_t> drops;
  size_t held = 0;

  void drop_waiting(Naive* naive, Reason reason) {
    drops[reason] += naive->waiting.size();
    held -= naive->waiting.size();
    naive->waiting.clear();
  }
  void expire(double now_ms) {
    for (auto at = datagrams.begin(); at != datagrams.end();) {
      const bool due = now_ms - at->second.since_ms >= kFragmentTimeoutMs;
      if (due) drop_waiting(&at->second, Reason::fragment_timeout);
      at = due ? datagrams.erase(at) : std::next(at);
    }
  }
  void take(uint32_t id, const Part& part, const Bytes& frame, double now_ms) {
    Naive& naive = datagrams.try_emplace(id, Naive{now_ms, {}, {}}).first->second;
    const bool contradicts = naive.contradicts(part);
    if (!naive.is_discarded && !contradicts && naive.has(part)) {
      ++drops[Reason::fragment_duplicate];
    } else if (naive.is_discarded || contradicts || naive.overlaps(part)) {
      naive.is_discarded = true;
      ++drops[Reason::fragment_overlap];
      drop_waiting(&naive, Reason::fragment_overlap);
    } else if (part.at > 0 && !naive.has_first) {
      if (naive.waiting.size() == kWaitingPerDatagram) {
        ++drops[Reason::fragment_limit];
        return;
      }
      naive.parts.push_back(part);
      naive.waiting.push_back(frame);
      ++held;
    } else {
      naive.parts.push_back(part);
      naive.has_first = true;
      out.push_back(frame);
      out.insert(out.end(), naive.waiting.begin(), naive.waiting.end());
      held -= naive.waiting.size();
      naive.waiting.clear();
      if (naive.is_whole()) datagrams.erase(id);
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<Bytes> out;
  MemoryHooks hooks;
  hooks.transmit = [&](uint16_t, const Frame& frame) {
    FUZZ_CHECK(!frame.pieces);
    out.emplace_back(frame.data, frame.data + frame.length);
  };
  Datapath datapath(4, {}, 1, 0, hooks);
  for (uint16_t number : {1, 2}) {
    auto port = std::make_unique<Port>();
    port->number = number;
    datapath.add_port(std::move(port));
  }
  // Only fragments that have the ports of their first one leave.
  Key key = {}, mask = {};
  key.ip_proto = 17;
  key.l4_dst[1] = 53;
  mask.ip_proto = 0xff;
  memset(mask.l4_dst, 0xff, 2);
  const Action action = {Op::output, {}, 2, {}};
  datapath.flow_put(1, Words::of(key), Words::of(mask), &action, 1);

  World world;
  double now_ms = 0;
  uint64_t received = 0;
  // Kind (u8), offset in units of 8 bytes (u8), length (u8): a fragment, or time.
  for (; size >= 3; data += 3, size -= 3) {
    const uint8_t what = data[0];
    if (what >> 4 == 15) {
      now_ms += data[1] * 32;
      datapath.set_now(now_ms);
      world.expire(now_ms);
    } else {
      const bool more = what & 8;
      const Part part = {data[1] * 8u, more ? 8u * (1 + data[2] % 128) : 1u + data[2], more};
      if (part.at == 0 && !more) continue;  // not a fragment
      const Bytes frame = frame_of(what & 1, what & 6, part, static_cast<uint8_t>(received));
      const fuzz::Exact bytes(frame.data(), frame.size());
      const Frame one = {bytes.bytes(), static_cast<uint32_t>(frame.size()), {}};
      FUZZ_CHECK(datapath.receive(1, &one, 1) == 1);
      datapath.forward(1, 0);
      ++received;
      world.take(what & 7, part, frame, now_ms);
    }
    FUZZ_CHECK(out == world.out && datapath.held() == world.held);
    out.clear();
    world.out.clear();
  }
  const Counters& counters = datapath.counters();
  for (size_t i = 0; i < kReasons; ++i) FUZZ_CHECK(counters.drops[i] == world.drops[static_cast<Reason>(i)]);
  FUZZ_CHECK(counters.rx == received);
  fuzz::check_conservation(&datapath);
  return 0;
}
