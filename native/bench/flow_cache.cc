// The flow cache, by its size: a lookup in random order as the datapath does it (find the flow, count
// the frame, take its actions), one by one and for a burst at once; the memory for a flow; and what a
// put costs the datapath's thread.
//
// The keys of a block are written before its time is taken, so they are in the processor's cache, like
// those of frames that were just read. The sizes take turns. The time of a turn is that of its median
// block, and the output has the medians of the turns and of their ratios, so the time that other
// programs took is not included. For the same reason each cache is filled several times, and each put
// counts with its shortest time: then the longest put is the cache's own doing.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "../action.h"
#include "../flow_cache.h"
#include "bench.h"

using namespace weft;

namespace {

constexpr size_t kBurst = 32;
constexpr size_t kBlock = 256;
constexpr size_t kFills = 5;
constexpr size_t kBlocks = 1000;
constexpr size_t kTurns = 9;
constexpr uint32_t kSizes[] = {1'000, 10'000, 100'000, 1'000'000};

Key key_of(uint32_t flow) {
  Key key = {};
  key.in_port[1] = static_cast<uint8_t>(1 + flow % 200);
  store32(key.eth_dst + 2, 0x0a000000 + flow / 7);
  store32(key.eth_src + 2, 0x0b000000 + flow);
  store16(key.eth_type, 0x0800);
  key.ip_src[10] = key.ip_src[11] = key.ip_dst[10] = key.ip_dst[11] = 0xff;
  store32(key.ip_src + 12, 0x0b000000 + flow);
  store32(key.ip_dst + 12, 0x0a000000 + flow / 7);
  key.ip_proto = 17;
  key.ip_ttl = 64;
  store16(key.l4_src, 1024 + flow % 60'000);
  store16(key.l4_dst, 53);
  return key;
}

template <size_t count>
Words mask_of(const char* const (&names)[count]) {
  Key mask = {};
  for (const char* name : names) {
    for (const Field& field : kFields) {
      if (strcmp(field.name, name) == 0) memset(reinterpret_cast<uint8_t*>(&mask) + field.offset, 0xff, field.size);
    }
  }
  return Words::of(mask);
}

struct MaskSet {
  const char* name;
  std::vector<Words> masks;  // flow i has mask i % size
};

std::vector<MaskSet> mask_sets() {
  const Words ethernet = mask_of({"in_port", "eth_dst", "eth_src", "vlan_tci"});
  const Words tuple = mask_of({"in_port", "eth_dst", "eth_src", "eth_type", "ip_src", "ip_dst", "ip_proto", "l4_src", "l4_dst"});
  Words all;
  for (uint64_t& word : all.at) word = UINT64_MAX;
  return {
      {"1 mask, Ethernet (3 words)", {ethernet}},
      {"1 mask, 5-tuple (8 words)", {tuple}},
      {"8 masks (3 to 9 words)",
       {ethernet, tuple, mask_of({"in_port", "tun_vni", "eth_dst", "eth_src"}),
        mask_of({"in_port", "tun_vni", "tun_src", "eth_dst", "eth_src"}),
        mask_of({"in_port", "eth_dst", "eth_src", "eth_type", "ip_src"}),
        mask_of({"in_port", "eth_dst", "eth_src", "eth_type", "ip_src", "ip_proto"}),
        mask_of({"in_port", "eth_dst", "eth_src", "eth_type", "ip_src", "ip_dst", "ip_proto"}),
        mask_of({"in_port", "eth_dst", "eth_src", "eth_type", "ip_src", "ip_dst", "ip_proto", "l4_dst", "nd_lla"})}},
      {"1 mask, all fields", {all}},
  };
}

double resident_bytes() {
  FILE* file = fopen("/proc/self/statm", "r");
  long pages = 0;
  if (!file || fscanf(file, "%*d %ld", &pages) != 1) abort();
  fclose(file);
  return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double heap_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

// What the datapath does for a hit.
inline void count_hit(Flow* flow, uint64_t* sum) {
  if (!flow) abort();
  ++flow->packets;
  flow->bytes += 60;
  flow->last_used_ms = 1;
  *sum += flow->program.begin()->argument;
}

// Nanoseconds for a lookup; `look_up` takes a block of keys.
template <typename LookUp>
double take_turn(Sequence* random, uint32_t flows, LookUp look_up) {
  std::vector<Words> keys(kBlock);
  std::vector<double> took;
  for (size_t block = 0; block < kBlocks; ++block) {
    for (Words& key : keys) key = Words::of(key_of(random->below(flows)));
    const double from = now_ns();
    look_up(keys.data());
    took.push_back((now_ns() - from) / kBlock);
  }
  return median(&took);
}

// A cache of one size, and the measurements of it.
struct Subject {
  Subject(const MaskSet& set, uint32_t size) : flows(size), puts(size, 1e9) {
    for (size_t i = 0; i < kFills; ++i) {
      cache.reset();
      const double resident_before = resident_bytes(), heap_before = heap_bytes();
      cache = std::make_unique<FlowCache>(size, 0x5eed);
      fill(set);
      resident = (resident_bytes() - resident_before) / size;
      heap = (heap_bytes() - heap_before) / size;
    }
    std::sort(puts.begin(), puts.end());
  }

  void fill(const MaskSet& set) {
    for (uint32_t flow = 0; flow < flows; ++flow) {
      const Action action = {Op::output, {}, flow % 100, {}};
      const Words key = Words::of(key_of(flow));
      const double from = now_ns();
      const bool put = cache->put(flow + 1, key, set.masks[flow % set.masks.size()], programs.intern(&action, 1), 0);
      puts[flow] = std::min(puts[flow], now_ns() - from);
      if (!put) abort();
    }
  }

  void take_turns() {
    uint64_t sum = 0;
    one.push_back(take_turn(&random, flows, [&](const Words* keys) {
      for (size_t i = 0; i < kBlock; ++i) count_hit(cache->lookup(keys[i]), &sum);
    }));
    burst.push_back(take_turn(&random, flows, [&](const Words* keys) {
      for (size_t from = 0; from < kBlock; from += kBurst) {
        const Words* pointers[kBurst];
        Flow* found[kBurst];
        for (size_t i = 0; i < kBurst; ++i) pointers[i] = &keys[from + i];
        cache->lookup(pointers, kBurst, found);
        for (Flow* flow : found) count_hit(flow, &sum);
      }
    }));
    keep(sum);
  }

  uint32_t flows;
  Sequence random = {flows};
  Programs programs;
  std::unique_ptr<FlowCache> cache;
  double resident = 0, heap = 0;   // bytes for a flow
  std::vector<double> puts;        // nanoseconds, sorted
  std::vector<double> one, burst;  // nanoseconds for a lookup, by turn
};

double median_of(std::vector<double> samples) { return median(&samples); }

double median_ratio(std::vector<double> of, const std::vector<double>& to) {
  for (size_t i = 0; i < of.size(); ++i) of[i] /= to[i];
  return median(&of);
}

void run(const MaskSet& set) {
  std::vector<std::unique_ptr<Subject>> subjects;
  for (const uint32_t flows : kSizes) subjects.push_back(std::make_unique<Subject>(set, flows));
  for (size_t turn = 0; turn < kTurns; ++turn) {
    for (const auto& subject : subjects) subject->take_turns();
  }
  const Subject& first = *subjects[0];
  for (const auto& subject : subjects) {
    const std::vector<double>& puts = subject->puts;
    printf("%-32s%10u%10.1f%8.2f%10.1f%8.2f%10.0f%8.0f%10.0f%10.0f%12.0f\n", set.name, subject->flows,
           median_of(subject->one), median_ratio(subject->one, first.one), median_of(subject->burst),
           median_ratio(subject->burst, first.burst), subject->resident, subject->heap, puts[puts.size() / 2],
           puts[puts.size() - 1 - puts.size() / 1000], puts.back());
  }
}

}  // namespace

int main() {
  printf("%-32s%10s%10s%8s%10s%8s%10s%8s%10s%10s%12s\n", "flow cache", "flows", "one ns", "to 1k", "of 32 ns", "to 1k",
         "RSS B", "heap B", "put ns", "99.9 %", "longest ns");
  for (const MaskSet& set : mask_sets()) run(set);
}
