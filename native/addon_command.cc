// io/command.h for JavaScript. src/link/command.ts is the only caller, src/addon/addon.ts has the types.
#include <napi.h>
#include <pthread.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "io/command.h"

namespace {

using weft::Command;

struct Run;
void Resolve(Napi::Env env, Napi::Function, std::nullptr_t*, Run* run);
using Done = Napi::TypedThreadSafeFunction<std::nullptr_t, Run, Resolve>;

struct Run {
  Napi::Promise::Deferred promise;
  Command command;
  Done done;
};

// On the thread of JavaScript.
void Resolve(Napi::Env env, Napi::Function, std::nullptr_t*, Run* run) {
  const std::unique_ptr<Run> own(run);
  if (static_cast<napi_env>(env) == nullptr) return;  // it is ending
  const Command& command = run->command;
  auto ended = Napi::Object::New(env);
  ended["result"] = Napi::Number::New(env, command.result);
  ended["exitCode"] = Napi::Number::New(env, command.exit_code);
  ended["signal"] = Napi::Number::New(env, command.signal);
  ended["stdout"] = Napi::String::New(env, command.output);
  ended["stderr"] = Napi::String::New(env, command.errors);
  run->promise.Resolve(ended);
}

void* RunOnThread(void* argument) {
  auto* const run = static_cast<Run*>(argument);
  weft::run_command(&run->command);
  Done done = run->done;  // the rest belongs to JavaScript from here on
  if (done.BlockingCall(run) == napi_ok) done.Release();
  return nullptr;
}

// (words, path, input, netns, longest in ms) → Promise of { result, exitCode, signal, stdout, stderr }
//
// Not on one of the few threads of libuv: files, too, would wait there for programs that take long, and so would the end of this
// process. The thread ends with the program, since it has entered its network namespace.
Napi::Value RunCommand(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Command command;
  auto words = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < words.Length(); ++i) command.words.push_back(words.Get(i).As<Napi::String>());
  command.path = info[1].As<Napi::String>();
  command.input = info[2].As<Napi::String>();
  command.netns = info[3].As<Napi::Number>();
  command.longest_ms = info[4].As<Napi::Number>();
  auto* run = new Run{Napi::Promise::Deferred(env), std::move(command), Done::New(env, "weft program", 0, 1)};
  const Napi::Value promise = run->promise.Promise();
  pthread_t thread;
  if (const int error = pthread_create(&thread, nullptr, RunOnThread, run)) {
    run->command.result = -error;
    run->done.Release();
    Resolve(env, Napi::Function(), nullptr, run);
  } else {
    pthread_detach(thread);
  }
  return promise;
}

}  // namespace

void InitCommand(Napi::Env env, Napi::Object exports) {
  exports.Set("runCommand", Napi::Function::New(env, RunCommand));
}
