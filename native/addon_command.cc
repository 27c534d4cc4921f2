// io/command.h for JavaScript. src/link/command.ts is the only caller, src/addon/addon.ts has the types.
#include <napi.h>

#include <utility>

#include "io/command.h"

namespace {

using weft::Command;

class Run : public Napi::AsyncWorker {
 public:
  Run(Napi::Env env, Command command) : AsyncWorker(env), promise_(env), command_(std::move(command)) {}
  Napi::Value promise() const { return promise_.Promise(); }

  void Execute() override { weft::run_command(&command_); }

  void OnOK() override {
    Napi::Env env = Env();
    Napi::HandleScope scope(env);
    auto ended = Napi::Object::New(env);
    ended["result"] = Napi::Number::New(env, command_.result);
    ended["exitCode"] = Napi::Number::New(env, command_.exit_code);
    ended["signal"] = Napi::Number::New(env, command_.signal);
    ended["stdout"] = Napi::String::New(env, command_.output);
    ended["stderr"] = Napi::String::New(env, command_.errors);
    promise_.Resolve(ended);
  }

 private:
  Napi::Promise::Deferred promise_;
  Command command_;
};

// (words, path, input, netns, longest in ms) → Promise of { result, exitCode, signal, stdout, stderr }
Napi::Value RunCommand(const Napi::CallbackInfo& info) {
  Command command;
  auto words = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < words.Length(); ++i) command.words.push_back(words.Get(i).As<Napi::String>());
  command.path = info[1].As<Napi::String>();
  command.input = info[2].As<Napi::String>();
  command.netns = info[3].As<Napi::Number>();
  command.longest_ms = info[4].As<Napi::Number>();
  auto* worker = new Run(info.Env(), std::move(command));
  const Napi::Value promise = worker->promise();
  worker->Queue();  // it deletes itself
  return promise;
}

}  // namespace

void InitCommand(Napi::Env env, Napi::Object exports) {
  exports.Set("runCommand", Napi::Function::New(env, RunCommand));
}
