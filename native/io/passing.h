// Messages with descriptors between processes of weft on one host: sockets of the type
// SOCK_SEQPACKET, so that each message arrives as a whole, with its descriptors (unix(7), SCM_RIGHTS).
//
// Both ends check that the other one runs as the same user. Descriptors that arrive belong to the receiver, and are
// close-on-exec. All functions return a negative errno on failure.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fd.h"

namespace weft {

// The longest message, and the most descriptors in it.
inline constexpr size_t kMessageBytes = 32768;
inline constexpr size_t kMessageDescriptors = 64;

struct Message {
  std::vector<uint8_t> bytes;
  std::vector<Fd> descriptors;
};

// Listens at `path`, which must not exist, with mode 0600. A descriptor.
int listen_packets(const char* path);
// A connection that waits at `listener`; -EAGAIN if none does. A descriptor.
int accept_packets(int listener);
// Connects to the listener at `path`. A descriptor.
int connect_packets(const char* path);
// The process at the other end. -EPERM if it runs as another user.
pid_t peer_of(int connection);

// Waits at most `wait_ms` for room. 0; -EAGAIN if there is none; -EPIPE if the other end has closed; or another -errno.
int send_message(int connection, const uint8_t* bytes, size_t length, const int* descriptors, size_t count, int wait_ms);
// Waits at most `wait_ms`. 0; -EAGAIN if nothing has come; -EPIPE if the other end has closed; -EMFILE if there was no
// room for all its descriptors (those that arrived are closed).
int receive_message(int connection, int wait_ms, Message* message);

}  // namespace weft
