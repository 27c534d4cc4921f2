// The flow cache, by its size: a lookup in random order as the datapath makes
// it (find the flow, count the frame, take its actions), one by one and a burst
// at once; the memory of a flow; and what a put costs the datapath's thread.
//
// The keys of a block are written before its time is taken, so they are in the
// processor's cache, as those of frames that were just read. Each size has a
// process of its own, so that the memory of the last one is no part of it. The
// same cache is filled several times and each put counts with its shortest time,
// so the longest put is what the cache does, not what other programs did.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
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
constexpr size_t kSamples = 9;
constexpr size_t kLookupsPerSample = 1 << 19;
constexpr uint32_t kSizes[] = {1'000, 10'000, 100'000, 1'000'000};

Key key_of(uint32_t flow) {
  Key key = {};
  key.in_port[3] = static_cast<uint8_t>(1 + flow % 200);
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
      {"1 mask, all fields (13 words)", {all}},
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

struct Result {
  double one_ns, burst_ns;
  double resident, heap;  // bytes a flow
  double put_ns, put_999_ns, put_longest_ns;
};

// What the datapath does with a hit.
inline void count_hit(Flow* flow, uint64_t* sum) {
  if (!flow) abort();
  ++flow->packets;
  flow->bytes += 60;
  flow->last_used_ms = 1;
  *sum += flow->program.begin()->argument;
}

// Nanoseconds a lookup; `look_up` takes a block of keys.
template <typename LookUp>
double measure(uint32_t flows, LookUp look_up) {
  Sequence random = {flows};
  std::vector<Words> keys(kBlock);
  std::vector<double> samples;
  for (size_t sample = 0; sample <= kSamples; ++sample) {
    double took = 0;
    for (size_t done = 0; done < kLookupsPerSample; done += kBlock) {
      for (Words& key : keys) key = Words::of(key_of(random.below(flows)));
      const double from = now_ns();
      look_up(keys.data());
      took += now_ns() - from;
    }
    if (sample > 0) samples.push_back(took / kLookupsPerSample);  // the first one warms up
  }
  return median(&samples);
}

// `took` has the shortest time of each put so far.
void fill(FlowCache* cache, Programs* programs, const MaskSet& set, std::vector<double>* took) {
  for (uint32_t flow = 0; flow < took->size(); ++flow) {
    const Action action = {Op::output, {}, flow % 100, {}};
    const Words key = Words::of(key_of(flow));
    const double from = now_ns();
    const bool put = cache->put(flow + 1, key, set.masks[flow % set.masks.size()], programs->intern(&action, 1), 0);
    (*took)[flow] = std::min((*took)[flow], now_ns() - from);
    if (!put) abort();
  }
}

Result run(const MaskSet& set, uint32_t flows) {
  std::vector<double> puts(flows, 1e9);
  for (size_t i = 1; i < kFills; ++i) {
    Programs programs;
    FlowCache cache(flows, 0x5eed);
    fill(&cache, &programs, set, &puts);
  }
  const double resident = resident_bytes(), heap = heap_bytes();
  Programs programs;
  FlowCache cache(flows, 0x5eed);
  fill(&cache, &programs, set, &puts);
  Result result = {};
  result.resident = (resident_bytes() - resident) / flows;
  result.heap = (heap_bytes() - heap) / flows;
  result.put_ns = median(&puts);
  result.put_999_ns = puts[puts.size() - 1 - puts.size() / 1000];
  result.put_longest_ns = puts.back();

  uint64_t sum = 0;
  result.one_ns = measure(flows, [&](const Words* keys) {
    for (size_t i = 0; i < kBlock; ++i) count_hit(cache.lookup(keys[i]), &sum);
  });
  result.burst_ns = measure(flows, [&](const Words* keys) {
    for (size_t from = 0; from < kBlock; from += kBurst) {
      const Words* burst[kBurst];
      Flow* found[kBurst];
      for (size_t i = 0; i < kBurst; ++i) burst[i] = &keys[from + i];
      cache.lookup(burst, kBurst, found);
      for (Flow* flow : found) count_hit(flow, &sum);
    }
  });
  keep(sum);
  return result;
}

// In a process of its own.
Result run_apart(const MaskSet& set, uint32_t flows) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) abort();
  if (child == 0) {
    const Result result = run(set, flows);
    _exit(write(ends[1], &result, sizeof result) == sizeof result ? 0 : 1);
  }
  close(ends[1]);
  Result result = {};
  if (read(ends[0], &result, sizeof result) != sizeof result) abort();
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return result;
}

}  // namespace

int main() {
  printf("%-32s%10s%10s%8s%10s%8s%10s%8s%10s%10s%12s\n", "flow cache", "flows", "one ns", "to 1k", "of 32 ns", "to 1k",
         "RSS B", "heap B", "put ns", "99.9 %", "longest ns");
  for (const MaskSet& set : mask_sets()) {
    Result first = {};
    for (const uint32_t flows : kSizes) {
      const Result result = run_apart(set, flows);
      if (flows == kSizes[0]) first = result;
      printf("%-32s%10u%10.1f%8.2f%10.1f%8.2f%10.0f%8.0f%10.0f%10.0f%12.0f\n", set.name, flows, result.one_ns,
             result.one_ns / first.one_ns, result.burst_ns, result.burst_ns / first.burst_ns, result.resident, result.heap,
             result.put_ns, result.put_999_ns, result.put_longest_ns);
    }
  }
}
