// Any bytes as a frame: extract reads nothing beyond it, and its result is one that the rules of
// extract.h allow.
#include "../extract.h"

#include "../frame.h"
#include "fuzz.h"

using namespace weft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Exact frame(data, size);
  Key key;
  memset(&key, 0xa5, sizeof key);
  Layout layout = {};
  const Reason reason = extract(frame.bytes(), size, &key, &layout);
  if (reason != kNoDrop) {
    FUZZ_CHECK(reason <= Reason::ipv4_mapped);
    return 0;
  }
  const uint32_t length = layout.length;
  FUZZ_CHECK(layout.l4 == 0 || (layout.l4 >= 34 && layout.l4 <= length));
  FUZZ_CHECK(size >= 14 && size <= kMaxFrame && length >= 14 && length <= size);
  FUZZ_CHECK(memcmp(key.eth_dst, data, 12) == 0 && key.in_port[0] == 0xa5 && key.tun_src[15] == 0xa5);
  FUZZ_CHECK(key.ip_frag <= kFragLater);
  if (load16(key.icmp_id)) {
    const bool v4 = load16(key.eth_type) == 0x0800;
    const uint32_t type = load16(key.l4_src);
    FUZZ_CHECK(key.ip_proto == (v4 ? 1 : 58) && (v4 ? type == 0 || type == 8 : type == 128 || type == 129));
  }
  if (key.ip_frag == kFragLater) FUZZ_CHECK((key.l4_src[0] | key.l4_src[1] | key.l4_dst[0] | key.l4_dst[1]) == 0);
  if (key.ip_frag == kFragNone && load16(key.eth_type) == 0x86dd) {
    for (uint8_t extension : {0, 43, 44, 51, 60, 135}) FUZZ_CHECK(key.ip_proto != extension);
  }
  if (key.ip_frag != kFragNone) {
    const FragmentPart part = fragment_part(frame.bytes(), key);
    FUZZ_CHECK(part.bytes > 0 && part.at + part.bytes <= 65535 && part.at % 8 == 0);
    FUZZ_CHECK(part.more ? part.bytes % 8 == 0 : part.at > 0);
    FUZZ_CHECK((part.at > 0) == (key.ip_frag == kFragLater));
  }

  // The key depends on the trimmed frame only: padding has no influence.
  const fuzz::Exact trimmed(data, length);
  Key again = {};
  Layout layout_again;
  FUZZ_CHECK(extract(trimmed.bytes(), length, &again, &layout_again) == kNoDrop);
  FUZZ_CHECK(layout_again.length == length && layout_again.l4 == layout.l4);
  FUZZ_CHECK(memcmp(again.eth_dst, key.eth_dst, kKeyBytes - offsetof(Key, eth_dst)) == 0);
  flow_hash(key);
  return 0;
}
