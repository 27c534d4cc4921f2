#include "addon_liveness.h"

#include <cstring>

using namespace weft;

namespace {

constexpr size_t kPackedPeer = 16 + 1 + Hmac::kKeyBytes;

Napi::Value bytes_of(Napi::Env env, const uint8_t address[16]) {
  auto bytes = Napi::Uint8Array::New(env, 16);
  memcpy(bytes.Data(), address, 16);
  return bytes;
}

Napi::Value numbers_of(Napi::Env env, std::initializer_list<double> numbers) {
  auto array = Napi::Array::New(env, numbers.size());
  uint32_t i = 0;
  for (double number : numbers) array[i++] = Napi::Number::New(env, number);
  return array;
}

}  // namespace

LivenessSettings LivenessOf(const Napi::Value& value) {
  auto object = value.As<Napi::Object>();
  LivenessSettings settings;
  auto session = object.Get("session").As<Napi::Uint8Array>();
  if (session.ByteLength() == 8) settings.session = load64(session.Data());
  settings.interval_ms = object.Get("intervalMs").As<Napi::Number>();
  settings.multiplier = object.Get("multiplier").As<Napi::Number>();
  auto packed = object.Get("peers").As<Napi::Uint8Array>();
  for (size_t at = 0; at + kPackedPeer <= packed.ByteLength(); at += kPackedPeer) {
    PeerKey& peer = settings.peers.emplace_back();
    memcpy(peer.address, packed.Data() + at, 16);
    peer.has_key = packed[at + 16] != 0;
    memcpy(peer.key, packed.Data() + at + 17, sizeof peer.key);
  }
  auto vnis = object.Get("vnis").As<Napi::Uint32Array>();
  settings.vnis.assign(vnis.Data(), vnis.Data() + vnis.ElementLength());
  return settings;
}

Napi::Value PeersObject(Napi::Env env, Prober* prober) {
  const auto number = [env](double value) { return Napi::Number::New(env, value); };
  auto peers = Napi::Array::New(env);
  for (const PeerReport& report : prober->peers()) {
    auto peer = Napi::Object::New(env);
    peer["address"] = bytes_of(env, report.address);
    peer["state"] = number(static_cast<double>(report.state));
    peer["fault"] = number(static_cast<double>(report.fault));
    peer["twin"] = Napi::Boolean::New(env, report.has_twin);
    peer["sinceMs"] = number(report.since_ms);
    peer["heardMs"] = number(report.heard_ms);
    peer["rttMs"] = number(report.rtt_ms);
    peer["lossIn"] = numbers_of(env, {double(report.in_lost), double(report.in_of)});
    peer["lossOut"] = numbers_of(env, {double(report.out_lost), double(report.out_of)});
    if (report.tells_vnis) {
      auto vnis = Napi::Array::New(env, report.vnis.size());
      for (uint32_t i = 0; i < report.vnis.size(); ++i) vnis[i] = number(report.vnis[i]);
      peer["vnis"] = vnis;
    }
    peers[peers.Length()] = peer;
  }
  auto strangers = Napi::Array::New(env);
  for (const Stranger& one : prober->strangers()) {
    auto stranger = Napi::Object::New(env);
    stranger["address"] = bytes_of(env, one.address);
    stranger["reason"] = number(static_cast<double>(one.reason));
    stranger["count"] = number(static_cast<double>(one.count));
    stranger["lastMs"] = number(one.last_ms);
    strangers[strangers.Length()] = stranger;
  }
  auto result = Napi::Object::New(env);
  result["peers"] = peers;
  result["strangers"] = strangers;
  return result;
}
