// Frame I/O for a datapath that runs elsewhere (the TypeScript reference): one
// thread reads TAPs and the underlay into a queue, the owner takes from it and
// sends directly.
//
//   TAPs, underlay ──epoll, bursts──► reader thread ──► queue ──take()──► owner
//                ▲──────────────── send(), send_underlay() ◄──────────────┘
//
// There are two threads. The owner calls every public method; the reader only fills the queue. Only
// the owner changes `ports_`, under `mutex_`, so the owner can read it without the lock, and
// sending never waits for the reader.
//
// Reading from a port pauses while kPortFrames frames or kPortBytes bytes of it are queued (checked
// before each burst, so there is at most one burst more), and resumes when half of that was taken.
// Frames that arrive meanwhile wait, or are lost, in the kernel's own bounded queue. No port takes
// up another's room.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "../frame.h"
#include "../reason.h"
#include "tap.h"
#include "underlay.h"

namespace weft {

struct ReceivedFrame {
  uint16_t port;
  bool from_underlay;      // if true, `bytes` begins with the VXLAN header
  UnderlaySource source;   // who sent it, if from_underlay is true
  VnetHdr vnet;
  std::unique_ptr<uint8_t[]> bytes;
  uint32_t length;
};

struct LostPort {
  uint16_t port;
  int error;  // errno
};

class FrameIo {
 public:
  static constexpr size_t kPortFrames = 256;
  static constexpr size_t kPortBytes = 4 << 20;

  FrameIo() = default;
  FrameIo(const FrameIo&) = delete;
  FrameIo& operator=(const FrameIo&) = delete;
  ~FrameIo();

  // Starts the reader. `wake` is called on the reader's thread, with no lock held, when the queue
  // or the list of lost ports was empty and no longer is. 0 or -errno.
  int start(std::function<void()> wake);
  // Stops the reader, so that nothing more arrives in the queue. Everything stays open.
  void stop();
  // Stops the reader and closes everything; TAPs stay. `wake` is not called afterwards.
  void close();

  // 0, -EALREADY if the port number is in use, or what tap_open and Underlay::open return.
  int add_tap(uint16_t port, const TapTarget& target, const std::vector<SpareTap>& spares, TapOpened* opened);
  int open_underlay(uint16_t port, const uint8_t local[16], uint16_t l4_port, int spare = -1);
  // The descriptor of the TAP's queue or of the underlay's receiving socket; it is the port's. -1 if there is no port.
  int descriptor(uint16_t port) const;
  // What `tap_renew` returns for the TAP of that port; -ENOENT if there is none.
  int renew_tap(uint16_t port);
  // What `tap_place` returns for it; -ENOENT if there is none.
  int find_tap(uint16_t port, TapPlace* place);
  // Closes the port. With `keep` a TAP stays, without it is removed. Its queued frames are
  // discarded. 0 or -errno (-ENOENT: no such port).
  int remove(uint16_t port, bool keep);

  // Up to `max` frames, the oldest first; the frames of each port are in order.
  std::vector<ReceivedFrame> take(size_t max);
  // Ports that stopped by themselves since the last call; they exist until `remove`.
  std::vector<LostPort> take_lost();

  // Until when, of the times that were passed in, everything that had arrived from the underlay can be taken or was
  // (Underlay::read_until_ms).
  double read_until_ms(double now_ms);

  // The offloads of the TAP, see tap.h; 0 for other ports.
  uint8_t offloads(uint16_t port) const;
  // kNoDrop, or why not. For TAPs; the frame must ask only for what they support.
  Reason send(uint16_t port, const Frame& frame);
  // Sends to the first underlay port: datagrams of `datagram_bytes` each, one after the other, the
  // last perhaps shorter. 0 means that `payload` is one datagram.
  Refused send_underlay(const uint8_t remote[16], uint32_t entropy, uint8_t tos, iovec payload,
                        uint32_t datagram_bytes);

 private:
  struct Port {
    int fd = -1;                         // of a TAP; the underlay has its own
    uint8_t offloads = 0;
    std::unique_ptr<Underlay> underlay;  // null for a TAP
    size_t queued_frames = 0;            // guarded by mutex_, like the rest
    size_t queued_bytes = 0;
    bool paused = false;
    bool lost = false;

    int poll_fd() const { return underlay ? underlay->fd() : fd; }
    void shut();
  };

  static void* run_reader(void* self);
  void read_loop();
  bool read_port(uint16_t number, uint32_t events);
  void set_interest(uint16_t number, const Port& port);
  int insert(uint16_t number, Port port);

  std::function<void()> wake_;
  pthread_t reader_{};
  bool running_ = false;
  int epoll_ = -1;
  int stop_ = -1;  // eventfd

  std::mutex mutex_;
  std::unordered_map<uint16_t, Port> ports_;
  std::deque<ReceivedFrame> queue_;
  std::vector<LostPort> lost_;

  Burst burst_;  // used by the reader only
};

}  // namespace weft
