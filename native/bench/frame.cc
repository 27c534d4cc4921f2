// The cost of each byte or header of a frame: extract, and the Internet checksum.
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#include "../checksum.h"
#include "../extract.h"
#include "bench.h"

using namespace weft;

namespace {

constexpr size_t kSamples = 15;

// Nanoseconds for a call of `work(i)`, each with its number.
template <typename Work>
double measure(size_t calls, Work work) {
  std::vector<double> samples;
  for (size_t sample = 0; sample <= kSamples; ++sample) {
    const double from = now_ns();
    for (size_t i = 0; i < calls; ++i) work(i);
    if (sample > 0) samples.push_back((now_ns() - from) / static_cast<double>(calls));  // the first one warms up
  }
  return median(&samples);
}

struct NamedFrame {
  const char* name;
  std::vector<uint8_t> bytes;
};

std::vector<uint8_t> ethernet(uint16_t type) {
  return {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, static_cast<uint8_t>(type >> 8), static_cast<uint8_t>(type)};
}

void append(std::vector<uint8_t>* to, std::vector<uint8_t> bytes) { to->insert(to->end(), bytes.begin(), bytes.end()); }

std::vector<NamedFrame> frames() {
  const std::vector<uint8_t> v4 = {0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
  const std::vector<uint8_t> v6 = {0x60, 0, 0, 0, 0, 20, 6,    64, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                   0,    0, 0, 1, 0xfd, 0, 0,  0,  0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  std::vector<uint8_t> arp = {0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2};
  std::vector<uint8_t> udp = {0x30, 0x39, 0, 53, 0, 26, 0, 0};
  std::vector<uint8_t> tcp = {0x30, 0x39, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0};
  NamedFrame of_udp4 = {"UDP, IPv4", ethernet(0x0800)}, of_tcp6 = {"TCP, IPv6", ethernet(0x86dd)};
  NamedFrame of_arp = {"ARP", ethernet(0x0806)};
  append(&of_udp4.bytes, v4);
  append(&of_udp4.bytes, udp);
  append(&of_tcp6.bytes, v6);
  append(&of_tcp6.bytes, tcp);
  append(&of_arp.bytes, arp);
  return {of_udp4, of_tcp6, of_arp};
}

}  // namespace

int main() {
  printf("%-32s%10s\n", "extract", "ns");
  for (NamedFrame& frame : frames()) {
    frame.bytes.resize(std::max<size_t>(frame.bytes.size(), 60));
    Key key = {};
    Layout layout;
    const double ns = measure(1 << 17, [&](size_t i) {
      frame.bytes[7] = static_cast<uint8_t>(i);  // in the source MAC address
      if (extract(frame.bytes.data(), frame.bytes.size(), &key, &layout) != kNoDrop) abort();
      keep(key);
    });
    printf("%-32s%10.1f\n", frame.name, ns);
  }

  printf("\n%-32s%10s%10s\n", "checksum", "ns", "GB/s");
  Sequence random = {1};
  for (const size_t size : {64u, 1448u, 65536u}) {
    std::vector<uint8_t> bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
    const double ns = measure((64 << 20) / (size + 1024), [&](size_t i) {
      bytes[0] = static_cast<uint8_t>(i);
      OnesSum sum;
      sum.add(bytes.data(), size);
      keep(sum.folded());
    });
    printf("%-8zu%-24s%10.1f%10.2f\n", size, "bytes", ns, static_cast<double>(size) / ns);
  }
}
