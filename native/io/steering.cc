#include "steering.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace weft {
namespace {

// Registers: 6 the frame (where loads expect it), 7 the hash, 8 the protocol, 9 the L4 offset.
constexpr uint8_t kR0 = 0, kR1 = 1, kFrame = 6, kHash = 7, kProtocol = 8, kL4 = 9;

constexpr bpf_insn instruction(int code, uint8_t to, uint8_t from, int16_t jump, int32_t value) {
  return {static_cast<uint8_t>(code), to, from, jump, value};
}
constexpr bpf_insn move(uint8_t to, uint8_t from) { return instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
constexpr bpf_insn set(uint8_t to, int32_t value) { return instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }
constexpr bpf_insn op(int code, uint8_t to, int32_t value) { return instruction(BPF_ALU | code | BPF_K, to, 0, 0, value); }
constexpr bpf_insn mix(int code, uint8_t to, uint8_t from) { return instruction(BPF_ALU | code | BPF_X, to, from, 0, 0); }
// Loads from the frame, big-endian, into register 0. A load beyond the end of the frame ends the program with 0.
constexpr bpf_insn load(int size, int32_t at) { return instruction(BPF_LD | size | BPF_ABS, 0, 0, 0, at); }
constexpr bpf_insn load_l4(int size, int32_t at) { return instruction(BPF_LD | size | BPF_IND, 0, kL4, 0, at); }
constexpr bpf_insn jump(int code, uint8_t on, int32_t value, int16_t by) {
  return instruction(BPF_JMP | code | BPF_K, on, 0, by, value);
}

// Hashes addresses, and the ports of TCP, UDP and SCTP unless it is a fragment; for other protocols
// than IP, the MAC addresses.
constexpr bpf_insn kProgram[] = {
    move(kFrame, kR1),
    set(kHash, 0),
    load(BPF_H, 12),
    jump(BPF_JEQ, kR0, 0x0800, 6),
    jump(BPF_JEQ, kR0, 0x86dd, 18),
    // Ethernet
    load(BPF_W, 2),
    mix(BPF_XOR, kHash, kR0),
    load(BPF_W, 8),
    mix(BPF_ADD, kHash, kR0),
    jump(BPF_JA, 0, 0, 26),
    // IPv4
    load(BPF_W, 26),
    mix(BPF_XOR, kHash, kR0),
    load(BPF_W, 30),
    mix(BPF_ADD, kHash, kR0),
    load(BPF_B, 23),
    move(kProtocol, kR0),
    load(BPF_B, 14),
    op(BPF_AND, kR0, 15),
    op(BPF_LSH, kR0, 2),
    move(kL4, kR0),
    load(BPF_H, 20),
    jump(BPF_JSET, kR0, 0x3fff, 14),
    // IPv6
    jump(BPF_JA, 0, 0, 7),
    load(BPF_W, 34),
    mix(BPF_XOR, kHash, kR0),
    load(BPF_W, 50),
    mix(BPF_ADD, kHash, kR0),
    load(BPF_B, 20),
    move(kProtocol, kR0),
    set(kL4, 40),
    // Ports
    jump(BPF_JEQ, kProtocol, 6, 2),
    jump(BPF_JEQ, kProtocol, 17, 1),
    jump(BPF_JNE, kProtocol, 132, 3),
    load_l4(BPF_W, 14),
    op(BPF_MUL, kHash, 31),
    mix(BPF_ADD, kHash, kR0),
    // The kernel uses it modulo the number of queues.
    op(BPF_MUL, kHash, static_cast<int32_t>(0x9e3779b1)),
    op(BPF_RSH, kHash, 16),
    move(kR0, kHash),
    instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
};

}  // namespace

int steer_by_flow(int fd) {
  static const char license[] = "Apache-2.0";
  bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = reinterpret_cast<uint64_t>(kProgram);
  attributes.insn_cnt = sizeof kProgram / sizeof *kProgram;
  attributes.license = reinterpret_cast<uint64_t>(license);
  const int program = static_cast<int>(syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes));
  if (program < 0) return -errno;
  const int error = ioctl(fd, TUNSETSTEERINGEBPF, &program) < 0 ? -errno : 0;
  close(program);
  return error;
}

}  // namespace weft
