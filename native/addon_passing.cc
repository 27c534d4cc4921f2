// io/passing.h for JavaScript. src/addon/passing.ts is the only caller and has the types.
//
// Descriptors cross as numbers. Those that are passed in stay the caller's; those handed out belong to JavaScript.
#include <errno.h>
#include <fcntl.h>
#include <napi.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <string>
#include <vector>

#include "io/passing.h"

namespace {

using weft::Message;

std::vector<int> NumbersOf(const Napi::Value& value) {
  const auto array = value.As<Napi::Array>();
  std::vector<int> numbers;
  for (uint32_t i = 0; i < array.Length(); ++i) numbers.push_back(array.Get(i).As<Napi::Number>());
  return numbers;
}

int IntOf(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

// → { bytes, descriptors }
Napi::Value MessageObject(Napi::Env env, Message* message) {
  auto bytes = Napi::Uint8Array::New(env, message->bytes.size());
  memcpy(bytes.Data(), message->bytes.data(), message->bytes.size());
  auto descriptors = Napi::Array::New(env, message->descriptors.size());
  for (uint32_t i = 0; i < message->descriptors.size(); ++i) {
    descriptors[i] = Napi::Number::New(env, message->descriptors[i].release());
  }
  auto object = Napi::Object::New(env);
  object["bytes"] = bytes;
  object["descriptors"] = descriptors;
  return object;
}

// Calls back for each message on a connection, from the event loop of JavaScript, until it is closed.
class PacketReader : public Napi::ObjectWrap<PacketReader> {
 public:
  static Napi::Function Class(Napi::Env env) {
    return DefineClass(env, "PacketReader", {InstanceMethod("close", &PacketReader::Close)});
  }

  // (connection, onMessage: ({ bytes, descriptors } | -errno) => void); after an error there are no more calls. The
  // connection stays the caller's, who calls `close` before closing it.
  explicit PacketReader(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PacketReader>(info) {
    connection_ = IntOf(info[0]);
    on_message_ = Napi::Persistent(info[1].As<Napi::Function>());
    uv_loop_t* loop = nullptr;
    napi_get_uv_event_loop(info.Env(), &loop);
    poll_ = new uv_poll_t;
    poll_->data = this;
    if (const int error = uv_poll_init(loop, poll_, connection_)) {
      delete poll_;
      poll_ = nullptr;
      Napi::Error::New(info.Env(), std::string("poll: ") + uv_strerror(error)).ThrowAsJavaScriptException();
      return;
    }
    uv_poll_start(poll_, UV_READABLE | UV_DISCONNECT, [](uv_poll_t* poll, int, int) {
      static_cast<PacketReader*>(poll->data)->Read();
    });
    Ref();  // until `close`
  }

  ~PacketReader() { Stop(); }

 private:
  void Stop() {
    if (!poll_) return;
    uv_poll_stop(poll_);
    uv_close(reinterpret_cast<uv_handle_t*>(poll_), [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
    poll_ = nullptr;
  }

  void Read() {
    Napi::Env env = Env();
    Napi::HandleScope scope(env);
    Message message;
    const int error = weft::receive_message(connection_, 0, &message);
    if (error == -EAGAIN) return;
    if (error) uv_poll_stop(poll_);
    const Napi::Value value = error ? Napi::Number::New(env, error) : MessageObject(env, &message);
    on_message_.MakeCallback(env.Global(), {value});
  }

  void Close(const Napi::CallbackInfo&) {
    if (!poll_) return;
    Stop();
    on_message_.Reset();
    Unref();
  }

  int connection_ = -1;
  uv_poll_t* poll_ = nullptr;
  Napi::FunctionReference on_message_;
};

// (path) → descriptor | -errno
Napi::Value Listen(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), weft::listen_packets(info[0].As<Napi::String>().Utf8Value().c_str()));
}

// (listener) → descriptor | -errno
Napi::Value Accept(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), weft::accept_packets(IntOf(info[0])));
}

// (path) → descriptor | -errno
Napi::Value Connect(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), weft::connect_packets(info[0].As<Napi::String>().Utf8Value().c_str()));
}

// (connection) → the pid of the other end | -errno
Napi::Value PeerOf(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), weft::peer_of(IntOf(info[0])));
}

// (connection, bytes, descriptors, waitMs) → 0 | -errno
Napi::Value Send(const Napi::CallbackInfo& info) {
  const auto bytes = info[1].As<Napi::Uint8Array>();
  const std::vector<int> descriptors = NumbersOf(info[2]);
  return Napi::Number::New(info.Env(), weft::send_message(IntOf(info[0]), bytes.Data(), bytes.ByteLength(),
                                                          descriptors.data(), descriptors.size(), IntOf(info[3])));
}

// (connection, waitMs) → { bytes, descriptors } | -errno; waits in this call
Napi::Value Receive(const Napi::CallbackInfo& info) {
  Message message;
  const int error = weft::receive_message(IntOf(info[0]), IntOf(info[1]), &message);
  return error ? Napi::Number::New(info.Env(), error) : MessageObject(info.Env(), &message);
}

// (descriptor) → another one for the same open file, close-on-exec | -errno
Napi::Value Duplicate(const Napi::CallbackInfo& info) {
  const int fd = fcntl(IntOf(info[0]), F_DUPFD_CLOEXEC, 3);
  return Napi::Number::New(info.Env(), fd < 0 ? -errno : fd);
}

// (descriptor) → 0 | -errno: makes it close-on-exec
Napi::Value CloseOnExec(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fcntl(IntOf(info[0]), F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0);
}

int NotifyAt(const std::string& path, const std::string& text, const std::vector<int>& descriptors) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = 0;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  const weft::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0 || connect(socket.get(), reinterpret_cast<sockaddr*>(&address), length) < 0) return -errno;
  return weft::send_message(socket.get(), reinterpret_cast<const uint8_t*>(text.data()), text.size(), descriptors.data(),
                            descriptors.size(), 1000);
}

// (path, text, descriptors) → 0 | -errno: sends a datagram to the socket at `path`; a leading @ means an abstract name
Napi::Value Notify(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), NotifyAt(info[0].As<Napi::String>(), info[1].As<Napi::String>(), NumbersOf(info[2])));
}

// (path, waitMs) → 0 | -errno: waits until everything that was sent there before has been read (sd_notify_barrier(3))
Napi::Value NotifyBarrier(const Napi::CallbackInfo& info) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return Napi::Number::New(info.Env(), -errno);
  const weft::Fd read_end(ends[0]);
  weft::Fd write_end(ends[1]);
  int error = NotifyAt(info[0].As<Napi::String>(), "BARRIER=1", {write_end.get()});
  write_end = weft::Fd();
  pollfd closed = {read_end.get(), 0, 0};
  if (!error && poll(&closed, 1, IntOf(info[1])) == 0) error = -ETIMEDOUT;
  return Napi::Number::New(info.Env(), error);
}

}  // namespace

void InitPassing(Napi::Env env, Napi::Object exports) {
  exports.Set("PacketReader", PacketReader::Class(env));
  exports.Set("listenPackets", Napi::Function::New(env, Listen));
  exports.Set("acceptPackets", Napi::Function::New(env, Accept));
  exports.Set("connectPackets", Napi::Function::New(env, Connect));
  exports.Set("peerOf", Napi::Function::New(env, PeerOf));
  exports.Set("sendMessage", Napi::Function::New(env, Send));
  exports.Set("receiveMessage", Napi::Function::New(env, Receive));
  exports.Set("duplicate", Napi::Function::New(env, Duplicate));
  exports.Set("closeOnExec", Napi::Function::New(env, CloseOnExec));
  exports.Set("notify", Napi::Function::New(env, Notify));
  exports.Set("notifyBarrier", Napi::Function::New(env, NotifyBarrier));
}
