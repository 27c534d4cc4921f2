// What the two classes of the addon that open TAPs take and give: `TapTarget` and
// `TapOpened` of src/flow/tap.ts.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "io/tap.h"

namespace weft {

// (…, { netns, ifname, ifindex, dev, ino }); holds the texts that `target` points to.
class TapArgument {
 public:
  explicit TapArgument(const Napi::Value& value) {
    auto object = value.As<Napi::Object>();
    netns_ = object.Get("netns").As<Napi::String>();
    ifname_ = object.Get("ifname").As<Napi::String>();
    ifindex_ = object.Get("ifindex").As<Napi::Number>();
    bool lossless;
    dev_ = object.Get("dev").As<Napi::BigInt>().Uint64Value(&lossless);
    ino_ = object.Get("ino").As<Napi::BigInt>().Uint64Value(&lossless);
  }
  TapTarget target() const { return {{netns_.c_str(), dev_, ino_}, ifname_.c_str(), ifindex_}; }

 private:
  std::string netns_;
  std::string ifname_;
  uint32_t ifindex_;
  uint64_t dev_;
  uint64_t ino_;
};

// ({ dev, ino, ifindex, descriptors }[])
inline std::vector<SpareTap> SpareTapsOf(const Napi::Value& value) {
  const auto array = value.As<Napi::Array>();
  std::vector<SpareTap> spares;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto object = array.Get(i).As<Napi::Object>();
    const auto descriptors = object.Get("descriptors").As<Napi::Array>();
    bool lossless;
    SpareTap spare = {object.Get("dev").As<Napi::BigInt>().Uint64Value(&lossless),
                      object.Get("ino").As<Napi::BigInt>().Uint64Value(&lossless),
                      object.Get("ifindex").As<Napi::Number>(),
                      {}};
    for (uint32_t k = 0; k < descriptors.Length(); ++k) spare.fds.push_back(descriptors.Get(k).As<Napi::Number>());
    spares.push_back(std::move(spare));
  }
  return spares;
}

// → { created, queues, ifindex, dev, ino }
inline Napi::Value TapOpenedObject(Napi::Env env, const TapOpened& opened) {
  auto result = Napi::Object::New(env);
  result["created"] = Napi::Boolean::New(env, opened.created);
  result["queues"] = Napi::Number::New(env, static_cast<double>(opened.queues));
  result["ifindex"] = Napi::Number::New(env, opened.ifindex);
  result["dev"] = Napi::BigInt::New(env, opened.netns_dev);
  result["ino"] = Napi::BigInt::New(env, opened.netns_ino);
  return result;
}

// → { dev, ino, ifname }
inline Napi::Value TapPlaceObject(Napi::Env env, const TapPlace& place) {
  auto result = Napi::Object::New(env);
  result["dev"] = Napi::BigInt::New(env, place.netns_dev);
  result["ino"] = Napi::BigInt::New(env, place.netns_ino);
  result["ifname"] = Napi::String::New(env, place.ifname);
  return result;
}

}  // namespace weft
