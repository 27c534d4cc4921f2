// A limit for V8's heap in a process that is already running. V8 takes limits when it starts, from
// flags given by whoever starts the process; but here only the process itself knows the limit. V8
// has an interface that raises the limit for a while near the end of the memory, and sets it back
// to any value; there is no other way. And memory that V8 does not count as garbage to be. Nothing else in weft needs more
// than N-API.
#include "addon_heap.h"

#include <v8.h>

#include <cstring>

namespace {

size_t Unchanged(void*, size_t current, size_t) { return current; }

// (bytes): for objects that survive a collection or two; a limit below what is live plus a quarter is raised to that
void LimitHeap(const Napi::CallbackInfo& info) {
  const auto bytes = static_cast<size_t>(info[0].As<Napi::Number>().Int64Value());
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  isolate->AddNearHeapLimitCallback(Unchanged, nullptr);
  isolate->RemoveNearHeapLimitCallback(Unchanged, bytes);
}

// (): V8 begins to mark what is live, in the background and a little at a time; at the end it compacts the
// heap and gives back what is free then
void TrimHeap(const Napi::CallbackInfo&) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  isolate->MemoryPressureNotification(v8::MemoryPressureLevel::kModerate);
  isolate->MemoryPressureNotification(v8::MemoryPressureLevel::kNone);
}

}  // namespace

Napi::ArrayBuffer UncountedBuffer(Napi::Env env, void* memory, size_t bytes) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  auto store = v8::ArrayBuffer::NewBackingStore(memory, bytes, v8::BackingStore::EmptyDeleter, nullptr);
  const v8::Local<v8::Value> buffer = v8::ArrayBuffer::New(isolate, std::move(store));
  napi_value value = nullptr;
  static_assert(sizeof value == sizeof buffer);
  std::memcpy(&value, &buffer, sizeof value);
  return Napi::ArrayBuffer(env, value);
}

void InitHeap(Napi::Env env, Napi::Object exports) {
  exports["limitHeap"] = Napi::Function::New(env, LimitHeap, "limitHeap");
  exports["trimHeap"] = Napi::Function::New(env, TrimHeap, "trimHeap");
}
