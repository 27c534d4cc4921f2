// io/frame_io.h for JavaScript: the class `FrameIo` on the addon's exports, and what this kernel
// supports and knows about paths and connections. frame-io.ts of src/datapath/reference, and
// kernel-offloads.ts, path-mtu.ts and host-connections.ts of src/addon are the only callers;
// native-frame-io.ts and addon.ts there have the types.
//
// Errors are returned as negative errno, drop reasons as their number (255: sent). Bytes that are
// passed in are read before the call returns; those handed out are copies that belong to
// JavaScript.
#include <napi.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "addon_tap.h"
#include "io/conntrack.h"
#include "io/frame_io.h"
#include "io/path_mtu.h"
#include "offload.h"

namespace {

using weft::Frame;
using weft::VnetHdr;

Frame frame_of(const Napi::Value& value) {
  auto bytes = value.As<Napi::Uint8Array>();
  return Frame{bytes.Data(), static_cast<uint32_t>(bytes.ByteLength()), VnetHdr{}};
}

// Not a Buffer, whose `slice` would not copy.
Napi::Uint8Array copy_of(Napi::Env env, const uint8_t* bytes, size_t length) {
  auto copy = Napi::Uint8Array::New(env, length);
  if (length) memcpy(copy.Data(), bytes, length);
  return copy;
}

uint16_t number16(const Napi::Value& value) {
  return static_cast<uint16_t>(value.As<Napi::Number>().Uint32Value());
}

class FrameIoObject : public Napi::ObjectWrap<FrameIoObject> {
 public:
  static Napi::Function Class(Napi::Env env) {
    return DefineClass(env, "FrameIo",
                       {
                           InstanceMethod("addTap", &FrameIoObject::AddTap),
                           InstanceMethod("renewTap", &FrameIoObject::RenewTap),
                           InstanceMethod("findTap", &FrameIoObject::FindTap),
                           InstanceMethod("openUnderlay", &FrameIoObject::OpenUnderlay),
                           InstanceMethod("descriptor", &FrameIoObject::Descriptor),
                           InstanceMethod("remove", &FrameIoObject::Remove),
                           InstanceMethod("take", &FrameIoObject::Take),
                           InstanceMethod("takeLost", &FrameIoObject::TakeLost),
                           InstanceMethod("readUntil", &FrameIoObject::ReadUntil),
                           InstanceMethod("offloads", &FrameIoObject::Offloads),
                           InstanceMethod("send", &FrameIoObject::Send),
                           InstanceMethod("sendUnderlay", &FrameIoObject::SendUnderlay),
                           InstanceMethod("stop", &FrameIoObject::Stop),
                           InstanceMethod("close", &FrameIoObject::Close),
                       });
  }

  // (notify: () => void): called when frames or lost ports wait and none did before.
  explicit FrameIoObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FrameIoObject>(info) {
    Napi::Env env = info.Env();
    notify_ = Napi::ThreadSafeFunction::New(env, info[0].As<Napi::Function>(), "weft frame I/O", 0, 1);
    open_ = true;
    env_ = env;
    // The reader must have stopped before the environment ends.
    napi_add_env_cleanup_hook(env, CloseAtExit, this);
    const int error = io_.start([this] { notify_.NonBlockingCall(); });
    if (error) {
      CloseAll();
      Napi::Error::New(env, "frame I/O thread: errno " + std::to_string(-error)).ThrowAsJavaScriptException();
    }
  }

  ~FrameIoObject() { CloseAll(); }

 private:
  static void CloseAtExit(void* self) { static_cast<FrameIoObject*>(self)->CloseAll(); }

  void CloseAll() {
    if (!std::exchange(open_, false)) return;
    io_.close();
    notify_.Release();
    napi_remove_env_cleanup_hook(env_, CloseAtExit, this);
  }

  // (port, TapTarget, SpareTap[]) → TapOpened | -errno
  Napi::Value AddTap(const Napi::CallbackInfo& info) {
    const weft::TapArgument argument(info[1]);
    weft::TapOpened opened;
    const int error = io_.add_tap(number16(info[0]), argument.target(), weft::SpareTapsOf(info[2]), &opened);
    return error ? Napi::Number::New(info.Env(), error) : weft::TapOpenedObject(info.Env(), opened);
  }

  // (port) → what others had changed, which is restored | -errno
  Napi::Value RenewTap(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), io_.renew_tap(number16(info[0])));
  }

  // (port) → { dev, ino, ifname } | -errno
  Napi::Value FindTap(const Napi::CallbackInfo& info) {
    weft::TapPlace place;
    const int error = io_.find_tap(number16(info[0]), &place);
    return error ? Napi::Number::New(info.Env(), error) : weft::TapPlaceObject(info.Env(), place);
  }

  // (port, local: 16 bytes, l4Port, spare socket or -1) → 0 | -errno
  Napi::Value OpenUnderlay(const Napi::CallbackInfo& info) {
    auto local = info[1].As<Napi::Uint8Array>();
    const int spare = info[3].As<Napi::Number>().Int32Value();
    return Napi::Number::New(info.Env(), io_.open_underlay(number16(info[0]), local.Data(), number16(info[2]), spare));
  }

  // (port) → its descriptor, or -1
  Napi::Value Descriptor(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), io_.descriptor(number16(info[0])));
  }

  // (port, keep) → 0 | -errno
  Napi::Value Remove(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), io_.remove(number16(info[0]), info[1].As<Napi::Boolean>()));
  }

  // (max) → { port, bytes, flags, gsoType, gsoSize, csumStart, csumOffset, source? }[]
  Napi::Value Take(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    auto taken = io_.take(info[0].As<Napi::Number>().Uint32Value());
    auto result = Napi::Array::New(env, taken.size());
    for (uint32_t i = 0; i < taken.size(); ++i) {
      const weft::ReceivedFrame& frame = taken[i];
      auto object = Napi::Object::New(env);
      object["port"] = Napi::Number::New(env, frame.port);
      object["bytes"] = copy_of(env, frame.bytes.get(), frame.length);
      object["flags"] = Napi::Number::New(env, frame.vnet.flags);
      object["gsoType"] = Napi::Number::New(env, frame.vnet.gso_type);
      object["gsoSize"] = Napi::Number::New(env, frame.vnet.gso_size);
      object["csumStart"] = Napi::Number::New(env, frame.vnet.csum_start);
      object["csumOffset"] = Napi::Number::New(env, frame.vnet.csum_offset);
      if (frame.from_underlay) {
        object["source"] = copy_of(env, frame.source.address, sizeof frame.source.address);
        object["tos"] = Napi::Number::New(env, frame.source.tos);
      }
      result[i] = object;
    }
    return result;
  }

  // () → { port, errno }[]
  Napi::Value TakeLost(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    auto taken = io_.take_lost();
    auto result = Napi::Array::New(env, taken.size());
    for (uint32_t i = 0; i < taken.size(); ++i) {
      auto object = Napi::Object::New(env);
      object["port"] = Napi::Number::New(env, taken[i].port);
      object["errno"] = Napi::Number::New(env, taken[i].error);
      result[i] = object;
    }
    return result;
  }

  // (now) → until when everything that had arrived from the underlay can be taken; milliseconds
  Napi::Value ReadUntil(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), io_.read_until_ms(info[0].As<Napi::Number>().DoubleValue()));
  }

  // (port) → the offloads of the TAP
  Napi::Value Offloads(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), io_.offloads(number16(info[0])));
  }

  // (port, frame, flags, gsoType, gsoSize, csumStart, csumOffset) → reason
  Napi::Value Send(const Napi::CallbackInfo& info) {
    const auto number = [&](size_t at) { return number16(info[at]); };
    weft::Frame frame = frame_of(info[1]);
    frame.vnet = {static_cast<uint8_t>(number(2)), static_cast<uint8_t>(number(3)), 0, number(4), number(5), number(6)};
    weft::set_header_bytes(&frame);
    return Napi::Number::New(info.Env(), static_cast<uint8_t>(io_.send(number(0), frame)));
  }

  // (remote: 16 bytes, entropy, tos, payload, datagramBytes) → reason | refused datagrams << 8
  Napi::Value SendUnderlay(const Napi::CallbackInfo& info) {
    auto remote = info[0].As<Napi::Uint8Array>();
    const uint32_t entropy = info[1].As<Napi::Number>().Uint32Value();
    const auto tos = static_cast<uint8_t>(number16(info[2]));
    auto payload = info[3].As<Napi::Uint8Array>();
    const weft::Refused refused = io_.send_underlay(remote.Data(), entropy, tos, {payload.Data(), payload.ByteLength()},
                                                    info[4].As<Napi::Number>().Uint32Value());
    return Napi::Number::New(info.Env(), static_cast<uint8_t>(refused.reason) | refused.datagrams << 8);
  }

  // () : nothing more arrives; what has arrived can still be taken
  void Stop(const Napi::CallbackInfo&) { io_.stop(); }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    CloseAll();
    return info.Env().Undefined();
  }

  weft::FrameIo io_;
  Napi::ThreadSafeFunction notify_;
  napi_env env_ = nullptr;
  bool open_ = false;
};

// () → { cuts, gathers, tap: the offloads of a TAP }, each -errno if it could not be tried
Napi::Value ProbeOffloads(const Napi::CallbackInfo& info) {
  constexpr uint8_t kLoopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  Napi::Env env = info.Env();
  weft::Underlay underlay;
  const int udp = underlay.open(kLoopback, 0, false);
  uint8_t offloads = 0;
  const int tap = weft::tap_probe(&offloads);
  auto result = Napi::Object::New(env);
  result["cuts"] = Napi::Number::New(env, udp ? udp : underlay.cuts());
  result["gathers"] = Napi::Number::New(env, udp ? udp : underlay.gathers());
  result["tap"] = Napi::Number::New(env, tap ? tap : offloads);
  return result;
}

// (local: 16 bytes, remotes: 16 bytes each) → Int32Array: of each remote two numbers, see PathMtu
Napi::Value PathMtus(const Napi::CallbackInfo& info) {
  static_assert(sizeof(weft::PathMtu) == 2 * sizeof(int32_t));
  const uint8_t* local = info[0].As<Napi::Uint8Array>().Data();
  const auto remotes = info[1].As<Napi::Uint8Array>();
  const size_t count = remotes.ByteLength() / 16;
  auto result = Napi::Int32Array::New(info.Env(), 2 * count);
  weft::path_mtus(local, remotes.Data(), count, reinterpret_cast<weft::PathMtu*>(result.Data()));
  return result;
}

class ForgetStaleUdp : public Napi::AsyncWorker {
 public:
  ForgetStaleUdp(Napi::Env env, std::vector<uint8_t> own, std::vector<uint8_t> targets, std::vector<uint16_t> ports,
                 std::vector<weft::ServiceFront> fronts)
      : AsyncWorker(env),
        promise_(env),
        own_(std::move(own)),
        targets_(std::move(targets)),
        ports_(std::move(ports)),
        fronts_(std::move(fronts)) {}
  Napi::Value promise() const { return promise_.Promise(); }

  void Execute() override {
    result_ = weft::forget_stale_udp({.own = own_.data(),
                                      .own_count = own_.size() / 16,
                                      .targets = targets_.data(),
                                      .target_count = targets_.size() / 16,
                                      .ports = ports_.data(),
                                      .port_count = ports_.size(),
                                      .fronts = fronts_.data(),
                                      .front_count = fronts_.size()});
  }
  void OnOK() override { promise_.Resolve(Napi::Number::New(Env(), result_)); }

 private:
  Napi::Promise::Deferred promise_;
  std::vector<uint8_t> own_;
  std::vector<uint8_t> targets_;
  std::vector<uint16_t> ports_;
  std::vector<weft::ServiceFront> fronts_;
  int result_ = 0;
};

template <typename Array>
auto CopyOf(const Napi::Value& value) {
  const auto array = value.As<Array>();
  return std::vector(array.Data(), array.Data() + array.ElementLength());
}

// (own, targets: addresses of 16 bytes each, ports: Uint16Array, fronts: as ServiceFront) → Promise of how many, or -errno
Napi::Value ForgetStaleUdpOf(const Napi::CallbackInfo& info) {
  const auto records = info[3].As<Napi::Uint8Array>();
  std::vector<weft::ServiceFront> fronts(records.ByteLength() / sizeof(weft::ServiceFront));
  if (!fronts.empty()) memcpy(fronts.data(), records.Data(), fronts.size() * sizeof(weft::ServiceFront));
  auto* worker = new ForgetStaleUdp(info.Env(), CopyOf<Napi::Uint8Array>(info[0]), CopyOf<Napi::Uint8Array>(info[1]),
                                    CopyOf<Napi::Uint16Array>(info[2]), std::move(fronts));
  const Napi::Value promise = worker->promise();
  worker->Queue();  // it deletes itself
  return promise;
}

class ForgetConnections : public Napi::AsyncWorker {
 public:
  ForgetConnections(Napi::Env env, std::vector<uint8_t> connections)
      : AsyncWorker(env), promise_(env), connections_(std::move(connections)) {}
  Napi::Value promise() const { return promise_.Promise(); }

  void Execute() override {
    result_ = weft::forget_connections(connections_.data(), connections_.size() / weft::kHostConnectionBytes);
  }
  void OnOK() override { promise_.Resolve(Napi::Number::New(Env(), result_)); }

 private:
  Napi::Promise::Deferred promise_;
  std::vector<uint8_t> connections_;
  int result_ = 0;
};

// (records of weft::kHostConnectionBytes) → Promise of how many, or -errno
Napi::Value ForgetConnectionsOf(const Napi::CallbackInfo& info) {
  auto* worker = new ForgetConnections(info.Env(), CopyOf<Napi::Uint8Array>(info[0]));
  const Napi::Value promise = worker->promise();
  worker->Queue();  // it deletes itself
  return promise;
}

}  // namespace

Napi::Object InitFrameIo(Napi::Env env, Napi::Object exports) {
  exports.Set("probeOffloads", Napi::Function::New(env, ProbeOffloads));
  exports.Set("pathMtus", Napi::Function::New(env, PathMtus));
  exports.Set("forgetStaleUdp", Napi::Function::New(env, ForgetStaleUdpOf));
  exports.Set("forgetConnections", Napi::Function::New(env, ForgetConnectionsOf));
  exports.Set("FrameIo", FrameIoObject::Class(env));
  return exports;
}
