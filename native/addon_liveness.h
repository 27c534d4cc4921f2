// Settings and reports of liveness.h as objects of JavaScript.
#pragma once

#include <napi.h>

#include "prober.h"

// { session: 8 bytes, intervalMs, multiplier, peers: (address, has a key, key), packed; vnis }
weft::LivenessSettings LivenessOf(const Napi::Value& value);

// { peers: [{ address, state, fault, twin, sinceMs, heardMs, rttMs, lossIn, lossOut, vnis? }], strangers:
// [{ address, reason, count, lastMs }] }. Numbers that are not known are negative.
Napi::Value PeersObject(Napi::Env env, weft::Prober* prober);
