// The table of connections for JavaScript. Datapath objects use it too.
#pragma once

#include <napi.h>

#include <cstddef>
#include <memory>

#include "connection_table.h"

// src/addon/native-connections.ts has the types, and src/datapath/native/connections.ts is the caller.
class ConnectionsObject : public Napi::ObjectWrap<ConnectionsObject> {
 public:
  static Napi::Function Class(Napi::Env env);
  explicit ConnectionsObject(const Napi::CallbackInfo& info);

  // Lives as long as this object.
  weft::ConnectionTable* table() { return table_.get(); }

 private:
  Napi::Value Size(const Napi::CallbackInfo& info);
  Napi::Value Tracked(const Napi::CallbackInfo& info);
  Napi::Value Ended(const Napi::CallbackInfo& info);
  Napi::Value Latest(const Napi::CallbackInfo& info);
  Napi::Value Find(const Napi::CallbackInfo& info);
  Napi::Value IsTaken(const Napi::CallbackInfo& info);
  Napi::Value HasAnyIn(const Napi::CallbackInfo& info);
  Napi::Value Room(const Napi::CallbackInfo& info);
  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Claim(const Napi::CallbackInfo& info);
  Napi::Value AddTable(const Napi::CallbackInfo& info);
  void RemoveTable(const Napi::CallbackInfo& info);
  Napi::Value BalancedTo(const Napi::CallbackInfo& info);
  Napi::Value BalancedBy(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void SetFlow(const Napi::CallbackInfo& info);
  void End(const Napi::CallbackInfo& info);
  void NoteTold(const Napi::CallbackInfo& info);
  Napi::Value Owned(const Napi::CallbackInfo& info);
  Napi::Value CloseOwned(const Napi::CallbackInfo& info);
  Napi::Value Expire(const Napi::CallbackInfo& info);
  Napi::Value Recover(const Napi::CallbackInfo& info);
  void Adopt(const Napi::CallbackInfo& info);

  Napi::Reference<Napi::Uint8Array> memory_;
  Napi::Reference<Napi::Uint8Array> asked_memory_;
  weft::ConnectionOpening* asked_ = nullptr;  // where JavaScript writes its questions
  std::unique_ptr<weft::ConnectionTable> table_;
};
