// Decides which queue of a TAP a frame from the container uses: by a hash of its flow, so that
// each flow stays on one queue, and therefore on one thread.
//
// The kernel's own choice follows the queue on which the other direction was last written, so it
// may move a flow while frames of it still wait on the old queue.
#pragma once

namespace weft {

// Loads the steering program (eBPF) and attaches it to the TAP of `fd`, for all of its queues. 0,
// or -errno if this kernel does not allow it; then the kernel's own choice stays.
int steer_by_flow(int fd);

}  // namespace weft
