// What the threads of this process may do (capabilities(7)).
//
// Each thread has its own capabilities, and Node starts threads before any of weft's code runs.
// So to keep only some capabilities, every thread must drop the others itself. A signal tells it
// to, as the C library does for setuid.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft {

// From now on this thread has no capabilities, and neither have threads that it starts.
void drop_capabilities();

// All threads of this process keep only those of their capabilities whose bits are in `kept`, and
// can never get others; neither can programs that they run. Returns the number of threads that
// could not be told, because they block the signal, or -errno. Call it on the main thread, while no
// other thread may be starting threads.
int keep_capabilities(uint64_t kept);

// This thread runs as soon as it has something to do, before all threads of the machine without a real-time
// priority. So it must do little. Needs CAP_SYS_NICE or an RLIMIT_RTPRIO; false if it has neither.
bool run_in_real_time();

}  // namespace weft
