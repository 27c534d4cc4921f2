// io/netns.h and io/nftables.h for JavaScript. src/addon/netns.ts is the only caller and has the types.
#include <napi.h>

#include <string>
#include <utility>
#include <vector>

#include "io/netns.h"
#include "io/nftables.h"

namespace {

using weft::NetnsExchange;

NetnsExchange ExchangeOf(const Napi::Object& object) {
  NetnsExchange exchange;
  exchange.path = object.Get("path").As<Napi::String>();
  bool lossless;
  exchange.dev = object.Get("dev").As<Napi::BigInt>().Uint64Value(&lossless);
  exchange.ino = object.Get("ino").As<Napi::BigInt>().Uint64Value(&lossless);
  auto settings = object.Get("settings").As<Napi::Array>();
  for (uint32_t i = 0; i < settings.Length(); ++i) {
    auto setting = settings.Get(i).As<Napi::Object>();
    exchange.settings.push_back({setting.Get("path").As<Napi::String>(), setting.Get("value").As<Napi::String>()});
  }
  auto requests = object.Get("requests").As<Napi::Uint8Array>();
  exchange.requests.assign(requests.Data(), requests.Data() + requests.ByteLength());
  return exchange;
}

class Exchange : public Napi::AsyncWorker {
 public:
  Exchange(Napi::Env env, std::vector<NetnsExchange> exchanges)
      : AsyncWorker(env), promise_(env), exchanges_(std::move(exchanges)) {}
  Napi::Value promise() const { return promise_.Promise(); }

  void Execute() override { result_ = weft::netns_exchange(&exchanges_); }

  void OnOK() override {
    Napi::Env env = Env();
    Napi::HandleScope scope(env);
    auto all = Napi::Array::New(env, exchanges_.size());
    for (uint32_t i = 0; i < exchanges_.size(); ++i) {
      const NetnsExchange& exchange = exchanges_[i];
      auto settings = Napi::Array::New(env, exchange.settings.size());
      for (uint32_t k = 0; k < exchange.settings.size(); ++k) {
        settings[k] = Napi::Number::New(env, exchange.settings[k].result);
      }
      auto replies = Napi::Uint8Array::New(env, exchange.replies.size());
      std::copy(exchange.replies.begin(), exchange.replies.end(), replies.Data());
      auto one = Napi::Object::New(env);
      one["result"] = Napi::Number::New(env, result_ ? result_ : exchange.result);
      one["cookie"] = Napi::BigInt::New(env, exchange.cookie);
      one["settings"] = settings;
      one["replies"] = replies;
      all[i] = one;
    }
    promise_.Resolve(all);
  }

 private:
  Napi::Promise::Deferred promise_;
  std::vector<NetnsExchange> exchanges_;
  int result_ = 0;
};

// ({ path, dev, ino, settings: { path, value }[], requests }[])
// → Promise of { result, cookie, settings: errno[], replies }[]
Napi::Value ExchangeAll(const Napi::CallbackInfo& info) {
  auto array = info[0].As<Napi::Array>();
  std::vector<NetnsExchange> exchanges;
  for (uint32_t i = 0; i < array.Length(); ++i) exchanges.push_back(ExchangeOf(array.Get(i).As<Napi::Object>()));
  auto* worker = new Exchange(info.Env(), std::move(exchanges));
  const Napi::Value promise = worker->promise();
  worker->Queue();  // it deletes itself
  return promise;
}

// () → descriptor | -errno
Napi::Value Create(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), weft::create_netns()); }

// (descriptor) → 0 | -errno
Napi::Value Enter(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), weft::enter_netns(info[0].As<Napi::Number>()));
}

// (path of the namespace, address: 16 bytes, port, bytes that may wait) → descriptor | -errno
Napi::Value OpenUdp(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>();
  const uint8_t* address = info[1].As<Napi::Uint8Array>().Data();
  const auto port = static_cast<uint16_t>(info[2].As<Napi::Number>().Uint32Value());
  return Napi::Number::New(info.Env(), weft::open_udp({path.c_str()}, address, port, info[3].As<Napi::Number>()));
}

// () → the number of the last change | -errno
Napi::Value RulesetGeneration(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(weft::ruleset_generation()));
}

}  // namespace

void InitNetns(Napi::Env env, Napi::Object exports) {
  exports.Set("netnsExchange", Napi::Function::New(env, ExchangeAll));
  exports.Set("createNetns", Napi::Function::New(env, Create));
  exports.Set("openUdp", Napi::Function::New(env, OpenUdp));
  exports.Set("rulesetGeneration", Napi::Function::New(env, RulesetGeneration));
  exports.Set("enterNetns", Napi::Function::New(env, Enter));
}
