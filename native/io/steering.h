// Which queue of a TAP a frame from the container comes by: by a hash of its
// flow, so that each flow stays on one queue, and with it on one thread.
//
// The kernel's own choice follows the queue by which the other direction was
// last written, and so may move a flow while frames of it wait on the old queue.
#pragma once

namespace weft {

// Loads the steering program (eBPF) and attaches it to the TAP of `fd`, for all
// of its queues. 0, or -errno where this kernel does not let us; the kernel's own
// choice then stays.
int steer_by_flow(int fd);

}  // namespace weft
