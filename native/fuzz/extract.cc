// Any bytes as a frame: extract reads nothing beyond it, and its answer is one
// that the rules of extract.h allow.
#include "../extract.h"

#include "../frame.h"
#include "fuzz.h"

using namespace weft;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Exact frame(data, size);
  Key key;
  memset(&key, 0xa5, sizeof key);
  uint32_t length = 0;
  const Reason reason = extract(frame.bytes(), size, &key, &length);
  if (reason != kNoDrop) {
    FUZZ_CHECK(reason <= Reason::nd_malformed);
    return 0;
  }
  FUZZ_CHECK(size >= 14 && size <= kMaxFrame && length >= 14 && length <= size);
  FUZZ_CHECK(memcmp(key.eth_dst, data, 12) == 0 && key.in_port[0] == 0xa5 && key.tun_src[15] == 0xa5);
  FUZZ_CHECK(key.padding[0] == 0 && key.padding[1] == 0 && key.ip_frag <= kFragLater);
  if (key.ip_frag == kFragLater) FUZZ_CHECK((key.l4_src[0] | key.l4_src[1] | key.l4_dst[0] | key.l4_dst[1]) == 0);

  // A key is a function of the trimmed frame: padding has no part in it.
  const fuzz::Exact trimmed(data, length);
  Key again = {};
  uint32_t length_again = 0;
  FUZZ_CHECK(extract(trimmed.bytes(), length, &again, &length_again) == kNoDrop && length_again == length);
  FUZZ_CHECK(memcmp(again.eth_dst, key.eth_dst, kKeyBytes - offsetof(Key, eth_dst)) == 0);
  flow_hash(key);
  return 0;
}
