// The addon: the native datapath for JavaScript, the layout that it was built with (addon_layout.cc), the table of
// connections (addon_connections.cc), programs that it runs (addon_command.cc), frame I/O (addon_frame_io.cc), work in namespaces
// (addon_netns.cc), probes of peers (addon_liveness.cc), the passing of descriptors (addon_passing.cc) and the limit of V8's heap
// (addon_heap.cc). Only these files know N-API.
// src/addon/addon.ts has the types, and src/datapath/native/native.ts is the caller.
//
// Errors are returned as negative errno. Bytes passed in are read before the call returns. Bytes
// handed out are copies that belong to JavaScript. Arguments have the types that src/addon declares.
// Their values are checked here if a wrong one could do more than give a wrong result.
#include <errno.h>
#include <fcntl.h>
#include <napi.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon_connections.h"
#include "addon_heap.h"
#include "addon_liveness.h"
#include "addon_tap.h"
#include "io/privileges.h"
#include "populate.h"
#include "vxlan.h"
#include "workers.h"

void InitCommand(Napi::Env env, Napi::Object exports);
Napi::Object InitFrameIo(Napi::Env env, Napi::Object exports);
void InitNetns(Napi::Env env, Napi::Object exports);
void InitPartner(Napi::Env env, Napi::Object exports);
void InitPassing(Napi::Env env, Napi::Object exports);
Napi::Object LayoutObject(Napi::Env env);

namespace {

using namespace weft;

uint16_t number16(const Napi::Value& value) {
  return static_cast<uint16_t>(value.As<Napi::Number>().Uint32Value());
}

Words words_of(const Napi::Value& value) {
  auto bytes = value.As<Napi::Uint8Array>();
  Words words = {};
  memcpy(words.at, bytes.Data(), std::min(bytes.ByteLength(), kKeyBytes));
  return words;
}

// A copy of a frame, so that the datapath may write to it. Of a frame that is too long, it copies
// only enough to show that.
struct InjectedFrame {
  explicit InjectedFrame(const Napi::Value& value) {
    auto bytes = value.As<Napi::Uint8Array>();
    const size_t readable = std::min(bytes.ByteLength(), kMaxFrame + 1 + kVxlanBytes);
    storage = std::make_unique_for_overwrite<uint8_t[]>(readable);
    if (readable) memcpy(storage.get(), bytes.Data(), readable);
    frame = {storage.get(), static_cast<uint32_t>(bytes.ByteLength()), VnetHdr{}};
  }
  std::unique_ptr<uint8_t[]> storage;
  Frame frame;
};

// A burst of copied frames, from an array.
struct InjectedBurst {
  explicit InjectedBurst(const Napi::Value& value) {
    auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) {
      storage.emplace_back(array.Get(i));
      frames.push_back(storage.back().frame);
    }
  }
  std::vector<InjectedFrame> storage;
  std::vector<Frame> frames;
};

class DatapathObject : public Napi::ObjectWrap<DatapathObject> {
 public:
  static Napi::Function Class(Napi::Env env) {
    return DefineClass(env, "Datapath",
                       {
                           InstanceMethod("setClock", &DatapathObject::SetClock),
                           InstanceMethod("addTaps", &DatapathObject::AddTaps),
                           InstanceMethod("renewTap", &DatapathObject::RenewTap),
                           InstanceMethod("findTap", &DatapathObject::FindTap),
                           InstanceMethod("addVxlan", &DatapathObject::AddVxlan),
                           InstanceMethod("descriptors", &DatapathObject::Descriptors),
                           InstanceMethod("addMemory", &DatapathObject::AddMemory),
                           InstanceMethod("addMemoryVxlan", &DatapathObject::AddMemoryVxlan),
                           InstanceMethod("setRates", &DatapathObject::SetRates),
                           InstanceMethod("setPlace", &DatapathObject::SetPlace),
                           InstanceMethod("release", &DatapathObject::Release),
                           InstanceMethod("removePort", &DatapathObject::RemovePort),
                           InstanceMethod("inject", &DatapathObject::Inject),
                           InstanceMethod("injectDatagrams", &DatapathObject::InjectDatagrams),
                           InstanceMethod("takeWaiting", &DatapathObject::TakeWaiting),
                           InstanceMethod("execute", &DatapathObject::Execute),
                           InstanceMethod("originate", &DatapathObject::Originate),
                           InstanceMethod("flowPut", &DatapathObject::FlowPut),
                           InstanceMethod("flowDel", &DatapathObject::FlowDel),
                           InstanceMethod("flowGet", &DatapathObject::FlowGet),
                           InstanceMethod("flowDump", &DatapathObject::FlowDump),
                           InstanceMethod("mirrorStart", &DatapathObject::MirrorStart),
                           InstanceMethod("mirrorStop", &DatapathObject::MirrorStop),
                           InstanceMethod("counters", &DatapathObject::Counters),
                           InstanceMethod("setLiveness", &DatapathObject::SetLiveness),
                           InstanceMethod("runLiveness", &DatapathObject::RunLiveness),
                           InstanceMethod("peers", &DatapathObject::Peers),
                           InstanceMethod("hold", &DatapathObject::Hold),
                           InstanceMethod("begin", &DatapathObject::Begin),
                           InstanceMethod("stop", &DatapathObject::Stop),
                           InstanceMethod("close", &DatapathObject::Close),
                       });
  }

  // (workers, threaded, flowCap, copyDscp, Connections, { wake, transmit, transmitDatagram })
  explicit DatapathObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DatapathObject>(info) {
    Napi::Env env = info.Env();
    env_ = env;
    const size_t workers = std::clamp<size_t>(info[0].As<Napi::Number>().Uint32Value(), 1, Workers::kMost);
    const bool threaded = info[1].As<Napi::Boolean>();
    const auto flow_cap = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
    const bool copy_dscp = info[3].As<Napi::Boolean>();
    connections_ = Napi::Persistent(info[4].As<Napi::Object>());
    ConnectionTable* const connections = ConnectionsObject::Unwrap(connections_.Value())->table();
    auto handlers = info[5].As<Napi::Object>();
    transmit_ = Napi::Persistent(handlers.Get("transmit").As<Napi::Function>());
    transmit_datagram_ = Napi::Persistent(handlers.Get("transmitDatagram").As<Napi::Function>());
    if (threaded) {
      wake_ = Napi::ThreadSafeFunction::New(env, handlers.Get("wake").As<Napi::Function>(), "weft datapath", 0, 1);
    }

    uint64_t seed = 0;
    while (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
    }
    MemoryHooks hooks;
    hooks.transmit = [this](uint16_t port, const Frame& frame) { Transmit(port, frame); };
    hooks.transmit_datagram = [this](uint16_t port, const uint8_t* to, uint32_t hash, uint8_t tos, const iovec* payload) {
      TransmitDatagram(port, to, hash, tos, payload);
    };
    workers_ = std::make_unique<Workers>(threaded ? Worker::Mode::threaded : Worker::Mode::manual, workers, flow_cap,
                                         connections, seed, hooks, [this] { wake_.NonBlockingCall(); });
    open_ = true;
    if (copy_dscp) workers_->each([](Datapath& datapath) { datapath.copy_dscp(); });
    // The thread must end before the environment does.
    napi_add_env_cleanup_hook(env, CloseAtExit, this);
    if (const int error = workers_->start()) {
      CloseAll();
      Napi::Error::New(env, "datapath thread: errno " + std::to_string(-error)).ThrowAsJavaScriptException();
    }
  }

  ~DatapathObject() { CloseAll(); }

 private:
  static void CloseAtExit(void* self) { static_cast<DatapathObject*>(self)->CloseAll(); }

  void CloseAll() {
    if (!std::exchange(open_, false)) return;
    const bool threaded = !workers_->manual();
    workers_->close();
    if (threaded) wake_.Release();
    // The callbacks refer to things that refer to this object, so it would never be freed. No port is left to call
    // them.
    transmit_.Reset();
    transmit_datagram_.Reset();
    napi_remove_env_cleanup_hook(env_, CloseAtExit, this);
  }

  // Hooks of memory ports. native.ts collects the copies.

  void Transmit(uint16_t port, const Frame& frame) {
    Napi::HandleScope scope(env_);
    auto bytes = Napi::Uint8Array::New(env_, frame.length);
    frame.copy(bytes.Data(), frame.length);
    const auto number = [this](uint32_t value) { return Napi::Number::New(env_, value); };
    const VnetHdr& vnet = frame.vnet;
    transmit_.Call({number(port), bytes, number(vnet.flags), number(vnet.gso_type), number(vnet.gso_size),
                    number(vnet.csum_start), number(vnet.csum_offset)});
  }

  void TransmitDatagram(uint16_t port, const uint8_t* destination, uint32_t hash, uint8_t tos, const iovec* parts) {
    Napi::HandleScope scope(env_);
    const uint32_t source_port = kEntropyFirstPort + hash % kEntropyPorts;
    auto payload = Napi::Uint8Array::New(env_, parts[0].iov_len + parts[1].iov_len);
    memcpy(payload.Data(), parts[0].iov_base, parts[0].iov_len);
    if (parts[1].iov_len) memcpy(payload.Data() + parts[0].iov_len, parts[1].iov_base, parts[1].iov_len);
    transmit_datagram_.Call({Napi::Number::New(env_, port), Bytes(destination, 16), Napi::Number::New(env_, source_port),
                             Napi::Number::New(env_, tos), payload});
  }

  Napi::Value Bytes(const uint8_t* data, size_t length) {
    auto bytes = Napi::Uint8Array::New(env_, length);
    if (length) memcpy(bytes.Data(), data, length);
    return bytes;
  }

  // Sets `mirrored`, the records of all blocks, and `mirrorLost`.
  void SetMirrored(Napi::Object* result, const Mirrored& mirrored) {
    size_t size = 0;
    for (const MirrorBlock& block : mirrored.blocks) size += block.used;
    auto bytes = Napi::Uint8Array::New(env_, size);
    uint8_t* to = bytes.Data();
    for (const MirrorBlock& block : mirrored.blocks) {
      memcpy(to, block.bytes.get(), block.used);
      to += block.used;
    }
    (*result)["mirrored"] = bytes;
    (*result)["mirrorLost"] = Napi::Number::New(env_, static_cast<double>(mirrored.lost));
  }

  Napi::Value Result(int value) { return Napi::Number::New(env_, value); }

  // (ms)
  void SetClock(const Napi::CallbackInfo& info) { workers_->set_clock(info[0].As<Napi::Number>()); }

  // Ports

  // (ports[], TapTarget[], SpareTap[]) → (TapOpened | -errno)[]
  Napi::Value AddTaps(const Napi::CallbackInfo& info) {
    const auto ports = info[0].As<Napi::Array>();
    const auto targets = info[1].As<Napi::Array>();
    const std::vector<SpareTap> spares = SpareTapsOf(info[2]);
    std::vector<uint16_t> numbers;
    std::deque<TapArgument> arguments;  // elements stay in place
    std::vector<TapOpening> openings;
    for (uint32_t i = 0; i < ports.Length(); ++i) {
      numbers.push_back(number16(ports.Get(i)));
      openings.push_back({arguments.emplace_back(targets.Get(i)).target(), &spares, {}});
    }
    workers_->add_taps(numbers, &openings);
    auto result = Napi::Array::New(env_, openings.size());
    for (uint32_t i = 0; i < openings.size(); ++i) {
      const TapOpening& opening = openings[i];
      result[i] = opening.error ? Result(opening.error) : TapOpenedObject(env_, opening.opened);
    }
    return result;
  }

  // (port) → what others had changed and is now restored | -errno
  Napi::Value RenewTap(const Napi::CallbackInfo& info) { return Result(workers_->renew_tap(number16(info[0]))); }

  // (port) → { dev, ino, ifname } | -errno
  Napi::Value FindTap(const Napi::CallbackInfo& info) {
    weft::TapPlace place;
    const int error = workers_->find_tap(number16(info[0]), &place);
    return error ? Result(error) : weft::TapPlaceObject(env_, place);
  }

  // (port, local: 16 bytes, l4Port, spare sockets: Int32Array) → 0 | -errno
  Napi::Value AddVxlan(const Napi::CallbackInfo& info) {
    const auto spares = info[3].As<Napi::Int32Array>();
    return Result(workers_->add_vxlan(number16(info[0]), info[1].As<Napi::Uint8Array>().Data(), number16(info[2]),
                                      {spares.Data(), spares.Data() + spares.ElementLength()}));
  }

  // (port) → its descriptors, one for each worker
  Napi::Value Descriptors(const Napi::CallbackInfo& info) {
    const std::vector<int> descriptors = workers_->descriptors(number16(info[0]));
    auto result = Napi::Array::New(env_, descriptors.size());
    for (uint32_t i = 0; i < descriptors.size(); ++i) result[i] = Result(descriptors[i]);
    return result;
  }

  // (port, offloads) → 0 | -errno
  Napi::Value AddMemory(const Napi::CallbackInfo& info) {
    return Result(workers_->add_memory(number16(info[0]), info[1].As<Napi::Boolean>()));
  }

  // (port, local: 16 bytes) → 0 | -errno
  Napi::Value AddMemoryVxlan(const Napi::CallbackInfo& info) {
    return Result(workers_->add_memory_vxlan(number16(info[0]), info[1].As<Napi::Uint8Array>().Data()));
  }

  // (port, 21 numbers: rate per second, burst and queue of ingress, egress, storm, upcalls, answers, sockets and
  // unanswered; rate 0: no limit)
  void SetRates(const Napi::CallbackInfo& info) {
    auto numbers = info[1].As<Napi::Float64Array>();
    const auto rate = [&](size_t at) {
      return Rate{static_cast<uint64_t>(numbers[at]), static_cast<uint64_t>(numbers[at + 1]),
                   static_cast<uint64_t>(numbers[at + 2])};
    };
    workers_->set_rates(number16(info[0]), PortRates{rate(0), rate(3), rate(6), rate(9), rate(12), rate(15), rate(18)});
  }

  // (port, place)
  void SetPlace(const Napi::CallbackInfo& info) {
    workers_->set_place(number16(info[0]), info[1].As<Napi::Number>().Uint32Value());
  }

  // () : manual mode; sends the frames that waited for their port's rate and may go on
  void Release(const Napi::CallbackInfo&) {
    workers_->each([](Datapath& datapath) { datapath.release(); });
  }

  // (port, keep) → 0 | -errno
  Napi::Value RemovePort(const Napi::CallbackInfo& info) {
    return Result(workers_->remove_port(number16(info[0]), info[1].As<Napi::Boolean>()));
  }

  // Frames

  // (port, frames[], offloads), manual mode; the port exists. `offloads` has five
  // numbers for each frame: flags, gsoType, gsoSize, csumStart, csumOffset.
  void Inject(const Napi::CallbackInfo& info) {
    InjectedBurst burst(info[1]);
    auto offloads = info[2].As<Napi::Uint16Array>();
    for (size_t i = 0; i < burst.frames.size() && 5 * i + 4 < offloads.ElementLength(); ++i) {
      const uint16_t* at = offloads.Data() + 5 * i;
      burst.frames[i].vnet = {static_cast<uint8_t>(at[0]), static_cast<uint8_t>(at[1]), 0, at[2], at[3], at[4]};
    }
    const uint16_t port = number16(info[0]);
    workers_->receive(port, burst.frames.data(), burst.frames.size());
  }

  // (port, sources: UnderlaySource[], packed; payloads[]), manual mode; the port exists
  void InjectDatagrams(const Napi::CallbackInfo& info) {
    auto packed = info[1].As<Napi::Uint8Array>();
    InjectedBurst burst(info[2]);
    std::vector<UnderlaySource> sources(burst.frames.size());
    memcpy(sources.data(), packed.Data(), std::min(packed.ByteLength(), sources.size() * sizeof(UnderlaySource)));
    const uint16_t port = number16(info[0]);
    workers_->receive_datagrams(port, sources.data(), burst.frames.data(), burst.frames.size());
  }

  // (most upcalls) → { upcalls: UpcallRecord[], packed; mirrored: MirrorRecord[] with bytes, packed; lost: (port, errno)[]; peersChanged }
  Napi::Value TakeWaiting(const Napi::CallbackInfo& info) {
    const size_t most = std::min<size_t>(info[0].As<Napi::Number>().Uint32Value(), kUpcallBatch);
    Worker::Waiting waiting = workers_->take_waiting(upcalls_, most);
    auto result = Napi::Object::New(env_);
    result["upcalls"] = Bytes(reinterpret_cast<const uint8_t*>(upcalls_), waiting.upcalls * sizeof(UpcallRecord));
    SetMirrored(&result, waiting.mirrored);
    auto lost = Napi::Array::New(env_);
    for (uint32_t i = 0; i < waiting.lost.size(); ++i) {
      auto one = Napi::Object::New(env_);
      one["port"] = Napi::Number::New(env_, waiting.lost[i].port);
      one["errno"] = Napi::Number::New(env_, waiting.lost[i].error);
      lost[i] = one;
    }
    result["lost"] = lost;
    result["peersChanged"] = Napi::Boolean::New(env_, workers_->prober().take_changed());
    return result;
  }

  // The actions of an encoded list. If they are not valid, throws and returns nothing.
  std::vector<Action> ActionsOf(const Napi::Value& value) {
    auto bytes = value.As<Napi::Uint8Array>();
    std::vector<Action> actions(bytes.ByteLength() / kActionBytes);
    if (!actions.empty()) memcpy(actions.data(), bytes.Data(), actions.size() * kActionBytes);
    if (!actions_valid(actions.data(), actions.size())) {
      actions.clear();
      Napi::RangeError::New(env_, "not a list of actions: outputs and encaps, perhaps behind a rewrite, or one drop, or one consume")
          .ThrowAsJavaScriptException();
    }
    return actions;
  }

  // (token, actions)
  void Execute(const Napi::CallbackInfo& info) {
    const auto token = static_cast<Token>(info[0].As<Napi::Number>().Int64Value());
    const std::vector<Action> actions = ActionsOf(info[1]);
    if (actions.empty()) return;
    workers_->execute(token, actions.data(), actions.size());
  }

  // (frame, actions)
  void Originate(const Napi::CallbackInfo& info) {
    const InjectedFrame made(info[0]);
    const std::vector<Action> actions = ActionsOf(info[1]);
    if (actions.empty()) return;
    workers_->originate(made.frame, actions.data(), actions.size());
  }

  // Flows

  // (id, key, mask, actions, ofConnections) → whether it was put
  Napi::Value FlowPut(const Napi::CallbackInfo& info) {
    const uint32_t id = info[0].As<Napi::Number>();
    const Words key = words_of(info[1]);
    const Words mask = words_of(info[2]);
    const std::vector<Action> actions = ActionsOf(info[3]);
    if (actions.empty()) return info.Env().Undefined();
    const bool of_connections = info[4].As<Napi::Boolean>();
    const bool put = workers_->flow_put(id, key, mask, actions.data(), actions.size(), of_connections);
    return Napi::Boolean::New(env_, put);
  }

  // (id)
  void FlowDel(const Napi::CallbackInfo& info) {
    const uint32_t id = info[0].As<Napi::Number>();
    workers_->flow_del(id);
  }

  // A flow as it crosses into JavaScript, followed by its encoded actions.
  struct FlowRecord {
    uint32_t id;
    uint32_t actions;
    double packets;
    double bytes;
    double last_used_ms;
    Key key;
    Key mask;
  };
  static_assert(sizeof(FlowRecord) == 32 + 2 * kKeyBytes);
  static constexpr size_t kDumpFlows = 512;

  // (FlowRecord, actions)[], packed
  Napi::Value Packed(const std::vector<Workers::FlowTotal>& flows) {
    std::vector<uint8_t> packed;
    const auto append = [&](const void* from, size_t bytes) {
      const auto* data = static_cast<const uint8_t*>(from);
      packed.insert(packed.end(), data, data + bytes);
    };
    for (const Workers::FlowTotal& flow : flows) {
      const FlowRecord record = {flow.id,
                                 static_cast<uint32_t>(flow.actions.size()),
                                 static_cast<double>(flow.packets),
                                 static_cast<double>(flow.bytes),
                                 flow.last_used_ms,
                                 flow.key.key(),
                                 flow.mask.key()};
      append(&record, sizeof record);
      append(flow.actions.data(), flow.actions.size() * kActionBytes);
    }
    return Bytes(packed.data(), packed.size());
  }

  // (id) → the flow, packed as by FlowDump; empty if there is none
  Napi::Value FlowGet(const Napi::CallbackInfo& info) {
    const uint32_t id = info[0].As<Napi::Number>();
    return Packed(workers_->flow(id));
  }

  // (cursor) → { flows: (FlowRecord, actions)[], packed; next: cursor or -1 }
  Napi::Value FlowDump(const Napi::CallbackInfo& info) {
    const uint32_t from = info[0].As<Napi::Number>();
    uint32_t next;
    auto result = Napi::Object::New(env_);
    result["flows"] = Packed(workers_->dump(from, kDumpFlows, &next));
    result["next"] = Napi::Number::New(env_, next == SlotIndex::kNone ? -1 : static_cast<double>(next));
    return result;
  }

  // Mirror and counters

  // (port or 0, snapBytes, filter: BpfInstruction[], packed; empty: all frames)
  void MirrorStart(const Napi::CallbackInfo& info) {
    const uint32_t snap_bytes = info[1].As<Napi::Number>();
    auto packed = info[2].As<Napi::Uint32Array>();
    std::vector<BpfInstruction> filter(packed.ElementLength() / 4);
    if (!filter.empty()) memcpy(filter.data(), packed.Data(), filter.size() * sizeof(BpfInstruction));
    if (!filter.empty() && !bpf_is_valid(filter)) {
      Napi::RangeError::New(env_, "not a BPF program that can be run").ThrowAsJavaScriptException();
      return;
    }
    workers_->each([&](Datapath& datapath) { datapath.mirror().start(number16(info[0]), snap_bytes, filter); });
  }

  // () → { mirrored, mirrorLost }: what was waiting, in the form of takeWaiting
  Napi::Value MirrorStop(const Napi::CallbackInfo&) {
    Mirrored mirrored;
    workers_->each([&](Datapath& datapath) {
      datapath.mirror().stop();
      mirrored.append(datapath.mirror().take());
    });
    auto result = Napi::Object::New(env_);
    SetMirrored(&result, mirrored);
    return result;
  }

  // () → Float64Array: 14 totals, drops by reason number, then for each port its
  // number, 5 counters and its drops by reason number
  Napi::Value Counters(const Napi::CallbackInfo&) {
    std::vector<double> values;
    const auto append = [&](auto... numbers) { (values.push_back(static_cast<double>(numbers)), ...); };
    const Workers::Totals totals = workers_->totals();
    const weft::Counters& all = totals.counters;
    append(all.rx, all.originated, all.copies, all.segments, all.tx, all.consumed, all.coalesced, totals.held,
           all.upcalls, all.unanswered, totals.flows, totals.masks, totals.refused.flows, totals.refused.masks);
    values.insert(values.end(), std::begin(all.drops), std::end(all.drops));
    for (const auto& [number, port] : totals.ports) {
      append(number, port.rx_frames, port.rx_bytes, port.tx_frames, port.tx_bytes, port.unanswered);
      values.insert(values.end(), std::begin(port.drops), std::end(port.drops));
    }
    auto result = Napi::Float64Array::New(env_, values.size());
    memcpy(result.Data(), values.data(), values.size() * sizeof(double));
    return result;
  }

  // Probes of peers

  // (LivenessSettings)
  void SetLiveness(const Napi::CallbackInfo& info) { workers_->prober().configure(LivenessOf(info[0])); }

  // () → when to call it again, or -1: manual mode; sends and judges what is due
  Napi::Value RunLiveness(const Napi::CallbackInfo&) {
    const double due_ms = workers_->prober().run();
    return Napi::Number::New(env_, due_ms == Liveness::kNever ? -1 : due_ms);
  }

  // () → { peers, strangers }
  Napi::Value Peers(const Napi::CallbackInfo&) { return PeersObject(env_, &workers_->prober()); }

  // () : ends the threads; what waits can still be taken, and executed
  void Hold(const Napi::CallbackInfo&) { workers_->hold(); }

  void Begin(const Napi::CallbackInfo&) { workers_->begin(); }

  void Stop(const Napi::CallbackInfo&) { workers_->stop(); }

  void Close(const Napi::CallbackInfo&) { CloseAll(); }

  Napi::Env env_ = nullptr;
  std::unique_ptr<Workers> workers_;
  Napi::ObjectReference connections_;  // used by the workers
  Napi::FunctionReference transmit_;
  Napi::FunctionReference transmit_datagram_;
  Napi::ThreadSafeFunction wake_;
  bool open_ = false;
  UpcallRecord upcalls_[kUpcallBatch];
};

// (path, bytes) → Uint8Array | -errno: maps a file into memory; creates, extends or truncates it as needed.
// What is written there outlives the process. Pages are allocated when `populate` is called for them,
// or all at once if the kernel has no such call (before 5.14). EPERM: others may write to the file
// too.
Napi::Value MapFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>();
  const auto bytes = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return Napi::Number::New(env, -errno);
  struct stat status;
  const bool is_own = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
                      status.st_nlink == 1 && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
  int error = is_own ? 0 : EPERM;
  if (!error && ftruncate(fd, static_cast<off_t>(bytes)) < 0) error = errno;
  void* memory = error ? MAP_FAILED : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (!error && memory == MAP_FAILED) error = errno;
  if (!error) error = populate(memory, 1);
  if (error == EINVAL) error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  close(fd);
  if (error && memory != MAP_FAILED) munmap(memory, bytes);
  if (error) return Napi::Number::New(env, -error);
  auto buffer = UncountedBuffer(env, memory, bytes);
  buffer.AddFinalizer([bytes](Napi::Env, void* mapped) { munmap(mapped, bytes); }, memory);
  return Napi::Uint8Array::New(env, bytes, buffer, 0);
}

// (descriptor) → true, or false if another open file holds the lock, or -errno. The lock belongs to the open file.
Napi::Value Lock(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (flock(info[0].As<Napi::Number>().Int32Value(), LOCK_EX | LOCK_NB) == 0) return Napi::Boolean::New(env, true);
  if (errno == EWOULDBLOCK) return Napi::Boolean::New(env, false);
  return Napi::Number::New(env, -errno);
}

// (memory, from, bytes) → 0 | errno
Napi::Value Populate(const Napi::CallbackInfo& info) {
  auto memory = info[0].As<Napi::Uint8Array>();
  const auto from = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
  const auto bytes = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
  const bool is_inside = from <= memory.ByteLength() && bytes <= memory.ByteLength() - from;
  return Napi::Number::New(info.Env(), is_inside ? populate(memory.Data() + from, bytes) : EINVAL);
}

// (bits: BigInt) → the number of threads that could not be reached, or -errno
Napi::Value KeepCapabilities(const Napi::CallbackInfo& info) {
  bool lossless = false;
  return Napi::Number::New(info.Env(), keep_capabilities(info[0].As<Napi::BigInt>().Uint64Value(&lossless)));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("layout", LayoutObject(env));
  exports.Set("mapFile", Napi::Function::New(env, MapFile, "mapFile"));
  exports.Set("lock", Napi::Function::New(env, Lock, "lock"));
  exports.Set("populate", Napi::Function::New(env, Populate, "populate"));
  exports.Set("keepCapabilities", Napi::Function::New(env, KeepCapabilities, "keepCapabilities"));
  exports.Set("Connections", ConnectionsObject::Class(env));
  exports.Set("Datapath", DatapathObject::Class(env));
  InitHeap(env, exports);
  InitCommand(env, exports);
  InitNetns(env, exports);
  InitPartner(env, exports);
  InitPassing(env, exports);
  return InitFrameIo(env, exports);
}

}  // namespace

NODE_API_MODULE(weft, Init)
