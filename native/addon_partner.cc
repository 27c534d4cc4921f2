// io/partner.h for JavaScript. src/addon/partner.ts is the only caller, src/addon/addon.ts has the types.
#include <napi.h>

#include "io/partner.h"

namespace {

// (words, input, ms to wait) → [pid, socket] | -errno
Napi::Value StartPartner(const Napi::CallbackInfo& info) {
  std::vector<std::string> words;
  const auto given = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < given.Length(); ++i) words.push_back(given.Get(i).As<Napi::String>());
  weft::Partner partner = {};
  const int failed =
      weft::start_partner(words, info[1].As<Napi::String>(), info[2].As<Napi::Number>().Int32Value(), &partner);
  if (failed) return Napi::Number::New(info.Env(), failed);
  auto started = Napi::Array::New(info.Env(), 2);
  started.Set(0u, partner.pid);
  started.Set(1u, partner.socket);
  return started;
}

// (pid)
void EndPartner(const Napi::CallbackInfo& info) { weft::end_partner(info[0].As<Napi::Number>().Int32Value()); }

// (pid of the parent) → 0 | -errno
Napi::Value Confine(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), weft::confine(info[0].As<Napi::Number>().Int32Value()));
}

}  // namespace

void InitPartner(Napi::Env env, Napi::Object exports) {
  exports.Set("startPartner", Napi::Function::New(env, StartPartner));
  exports.Set("endPartner", Napi::Function::New(env, EndPartner));
  exports.Set("confine", Napi::Function::New(env, Confine));
}
