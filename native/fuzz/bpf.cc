// Any bytes as a filter and as a frame: the program is refused or runs to its end, reads nothing
// beyond the frame, and gives the same result for a frame in pieces.
#include "../bpf.h"

#include "fuzz.h"

using namespace weft;

namespace {

// Taken from the input: the low byte of the code, both jumps, and k.
constexpr size_t kInstructionBytes = 7;

uint32_t number32(const uint8_t* at) { return uint32_t{at[0]} << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

}  // namespace

// The input: the number of instructions, where the frame is cut, the instructions, and the frame.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t instructions = data[0];
  const size_t cut = data[1];
  data += 2;
  size -= 2;
  if (size < instructions * kInstructionBytes) return 0;
  std::vector<BpfInstruction> program;
  for (size_t i = 0; i < instructions; ++i, data += kInstructionBytes) {
    program.push_back({data[0], data[1], data[2], number32(data + 3)});
  }
  size -= instructions * kInstructionBytes;
  if (!bpf_is_valid(program)) return 0;

  const fuzz::Exact bytes(data, size);
  const Frame whole = {bytes.bytes(), static_cast<uint32_t>(size), {}};
  const bool wanted = bpf_wants(program, whole);

  const size_t linear = std::min(cut, size);
  const size_t middle = linear + (size - linear) / 2;
  const fuzz::Exact first(data, linear);
  const fuzz::Exact second(data + linear, middle - linear);
  const fuzz::Exact third(data + middle, size - middle);
  Pieces pieces;
  pieces.count = 2;
  pieces.at[0] = {second.bytes(), middle - linear};
  pieces.at[1] = {third.bytes(), size - middle};
  const Frame cut_up = {first.bytes(), static_cast<uint32_t>(size), {}, &pieces, static_cast<uint32_t>(linear)};
  FUZZ_CHECK(bpf_wants(program, cut_up) == wanted);
  return 0;
}
