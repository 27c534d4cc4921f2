// nftables of the network namespace that this process is in, without its own program.
#pragma once

#include <stdint.h>

namespace weft {

// The number of the last change of any rule, chain, set or table. Returns it, or -errno.
int64_t ruleset_generation();

}  // namespace weft
