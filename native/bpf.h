// Classic BPF (McCanne and Jacobson 1993), to which libpcap compiles filter expressions: a program
// that looks at a frame and says whether it is wanted. Programs come from outside, so they are
// checked before they run. src/flow/bpf.ts checks and runs the same programs, with the same
// results.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "frame.h"

namespace weft {

struct BpfInstruction {
  uint32_t code;
  uint32_t jump_true;   // instructions to skip
  uint32_t jump_false;  // the same
  uint32_t k;
};
static_assert(sizeof(BpfInstruction) == 16);  // src/datapath/native/native.ts packs it like this

// BPF_MAXINSNS and BPF_MEMWORDS of the kernel.
inline constexpr size_t kBpfInstructions = 4096;
inline constexpr uint32_t kBpfMemory = 16;

// The rules of the kernel's bpf_check_classic: every instruction is known, jumps only go forward and stay inside,
// memory and shifts are within bounds, no constant divisor is 0, and the last instruction is a return. Such a program
// ends.
inline bool bpf_is_valid(const std::vector<BpfInstruction>& program) {
  if (program.empty() || program.size() > kBpfInstructions) return false;
  for (size_t at = 0; at < program.size(); ++at) {
    const auto& [code, jump_true, jump_false, k] = program[at];
    const uint64_t behind = program.size() - at - 1;
    switch (code) {
      case 0x06: case 0x16:
      case 0x00: case 0x01: case 0x20: case 0x28: case 0x30: case 0x40: case 0x48: case 0x50:
      case 0x80: case 0x81: case 0xb1: case 0x07: case 0x87: case 0x84:
      case 0x04: case 0x0c: case 0x14: case 0x1c: case 0x24: case 0x2c: case 0x3c: case 0x44: case 0x4c:
      case 0x54: case 0x5c: case 0x6c: case 0x7c: case 0x9c: case 0xa4: case 0xac:
        break;
      case 0x60: case 0x61: case 0x02: case 0x03:
        if (k >= kBpfMemory) return false;
        break;
      case 0x34: case 0x94:
        if (k == 0) return false;
        break;
      case 0x64: case 0x74:
        if (k >= 32) return false;
        break;
      case 0x05:
        if (k >= behind) return false;
        break;
      case 0x15: case 0x1d: case 0x25: case 0x2d: case 0x35: case 0x3d: case 0x45: case 0x4d:
        if (jump_true >= behind || jump_false >= behind) return false;
        break;
      default:
        return false;
    }
  }
  return program.back().code == 0x06 || program.back().code == 0x16;
}

// `program` must be valid. A load from beyond the end of the frame and a division by 0 end it: the frame is not wanted.
inline bool bpf_wants(const std::vector<BpfInstruction>& program, const Frame& frame) {
  uint32_t a = 0;
  uint32_t x = 0;
  uint32_t memory[kBpfMemory] = {};
  const auto load = [&](uint64_t at, uint32_t size, uint32_t* to) {
    uint8_t bytes[4];
    if (!frame.peek(at, size, bytes)) return false;
    *to = 0;
    for (uint32_t i = 0; i < size; ++i) *to = *to << 8 | bytes[i];
    return true;
  };
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const auto& [code, jump_true, jump_false, k] = program[pc];
    const uint32_t operand = code & 0x08 ? x : k;  // for arithmetic and jumps
    bool taken;
    switch (code) {
      case 0x06: return k != 0;  // ret k
      case 0x16: return a != 0;  // ret a
      case 0x00: a = k; continue;
      case 0x01: x = k; continue;
      case 0x20: if (!load(k, 4, &a)) return false; continue;
      case 0x28: if (!load(k, 2, &a)) return false; continue;
      case 0x30: if (!load(k, 1, &a)) return false; continue;
      case 0x40: if (!load(uint64_t{x} + k, 4, &a)) return false; continue;
      case 0x48: if (!load(uint64_t{x} + k, 2, &a)) return false; continue;
      case 0x50: if (!load(uint64_t{x} + k, 1, &a)) return false; continue;
      case 0x60: a = memory[k]; continue;
      case 0x61: x = memory[k]; continue;
      case 0x80: a = frame.length; continue;
      case 0x81: x = frame.length; continue;
      case 0xb1: if (!load(k, 1, &x)) return false; x = (x & 0x0f) * 4; continue;  // the length of the IP header
      case 0x02: memory[k] = a; continue;
      case 0x03: memory[k] = x; continue;
      case 0x04: case 0x0c: a += operand; continue;
      case 0x14: case 0x1c: a -= operand; continue;
      case 0x24: case 0x2c: a *= operand; continue;
      case 0x34: case 0x3c: if (!operand) return false; a /= operand; continue;
      case 0x44: case 0x4c: a |= operand; continue;
      case 0x54: case 0x5c: a &= operand; continue;
      case 0x64: case 0x6c: a = operand < 32 ? a << operand : 0; continue;
      case 0x74: case 0x7c: a = operand < 32 ? a >> operand : 0; continue;
      case 0x84: a = 0 - a; continue;
      case 0x94: case 0x9c: if (!operand) return false; a %= operand; continue;
      case 0xa4: case 0xac: a ^= operand; continue;
      case 0x07: x = a; continue;
      case 0x87: a = x; continue;
      case 0x05: pc += k; continue;
      case 0x15: case 0x1d: taken = a == operand; break;
      case 0x25: case 0x2d: taken = a > operand; break;
      case 0x35: case 0x3d: taken = a >= operand; break;
      case 0x45: case 0x4d: taken = (a & operand) != 0; break;
      default: return false;  // not valid
    }
    pc += taken ? jump_true : jump_false;
  }
  return false;
}

}  // namespace weft
