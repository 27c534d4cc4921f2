// What the threads of this process may do (capabilities(7)).
//
// Capabilities are a thread's own, and Node starts threads before any of weft's
// code runs: to keep only some of them, each thread has to give up the rest by
// itself. It is told by a signal, as the C library does for setuid.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft {

// From now on this thread has no capabilities, nor do threads that it starts.
void drop_capabilities();

// All threads of this process keep of their capabilities those whose bits are in
// `kept` and can never have others, and neither can the programs that they run.
// The number of threads that could not be told, since they block the signal, or
// -errno. The main thread's; no other thread may be starting threads.
int keep_capabilities(uint64_t kept);

}  // namespace weft
