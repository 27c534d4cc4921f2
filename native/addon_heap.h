// What the addon needs of V8 besides N-API.
#pragma once

#include <napi.h>

#include <cstddef>

// An ArrayBuffer of memory that V8 neither frees nor counts. Memory that it is to free makes it collect garbage: with the
// file of connections, that would take a start some ten milliseconds. The caller frees it when nobody uses the buffer.
Napi::ArrayBuffer UncountedBuffer(Napi::Env env, void* memory, size_t bytes);

void InitHeap(Napi::Env env, Napi::Object exports);
