/**
 * Captured frames as a pcapng file (draft-ietf-opsawg-pcapng), little endian.
 *
 *   section header · for each port, before its first frame, an interface
 *   description with its name · an enhanced packet for each frame
 *
 * Times are nanoseconds since the epoch; the direction is in epb_flags: what
 * the switch received from the port is inbound, what it sent there outbound.
 */

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const LINKTYPE_ETHERNET = 1;

const OPT_END = 0;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
const INBOUND = 1;
const OUTBOUND = 2;
/** 10^-9 s. */
const NANOSECONDS = 9;

export interface PcapngFrame {
  readonly port: string;
  readonly direction: 'rx' | 'tx';
  /** Nanoseconds since the epoch. */
  readonly timeNs: bigint;
  /** Of the whole frame. */
  readonly lengthBytes: number;
  /** Up to the snap length. */
  readonly bytes: Uint8Array;
}

/** Turns frames into the blocks of one file, in order. Owns no file: the caller writes what it returns. */
export class Pcapng {
  readonly #snapBytes: number;
  readonly #interfaces = new Map<string, number>();

  constructor(snapBytes: number) {
    this.#snapBytes = snapBytes;
  }

  /** The beginning of the file. */
  header(application: string): Uint8Array {
    const body = Buffer.alloc(16);
    body.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
    body.writeUInt16LE(1, 4);
    body.writeUInt16LE(0, 6);
    // The section's length is not known: -1.
    body.writeBigInt64LE(-1n, 8);
    return block(SECTION_HEADER, [body, option(SHB_USERAPPL, Buffer.from(application)), endOfOptions]);
  }

  /** The frame's block, after the description of its port if it is the port's first frame. */
  frame(frame: PcapngFrame): Uint8Array {
    const known = this.#interfaces.get(frame.port);
    if (known !== undefined) return packet(known, frame);
    const index = this.#interfaces.size;
    this.#interfaces.set(frame.port, index);
    return Buffer.concat([this.#interface(frame.port), packet(index, frame)]);
  }

  #interface(name: string): Uint8Array {
    const body = Buffer.alloc(8);
    body.writeUInt16LE(LINKTYPE_ETHERNET, 0);
    body.writeUInt32LE(this.#snapBytes, 4);
    return block(INTERFACE_DESCRIPTION, [
      body,
      option(IF_NAME, Buffer.from(name)),
      option(IF_TSRESOL, Buffer.of(NANOSECONDS)),
      endOfOptions,
    ]);
  }
}

function packet(index: number, { timeNs, bytes, lengthBytes, direction }: PcapngFrame): Uint8Array {
  const body = Buffer.alloc(20);
  body.writeUInt32LE(index, 0);
  body.writeUInt32LE(Number(timeNs >> 32n), 4);
  body.writeUInt32LE(Number(timeNs & 0xffff_ffffn), 8);
  body.writeUInt32LE(bytes.length, 12);
  body.writeUInt32LE(lengthBytes, 16);
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(direction === 'rx' ? INBOUND : OUTBOUND);
  return block(ENHANCED_PACKET, [body, padded(bytes), option(EPB_FLAGS, flags), endOfOptions]);
}

/** Type, length, body, length again. The parts' lengths are multiples of 4. */
function block(type: number, parts: readonly Uint8Array[]): Uint8Array {
  const length = 12 + parts.reduce((sum, part) => sum + part.length, 0);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(length, 4);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(length);
  return Buffer.concat([head, ...parts, tail], length);
}

function option(code: number, value: Uint8Array): Uint8Array {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(code, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, padded(value)]);
}

const endOfOptions = option(OPT_END, new Uint8Array(0));

/** To a multiple of 4 bytes, with zeros. */
function padded(bytes: Uint8Array): Uint8Array {
  const length = (bytes.length + 3) & ~3;
  return length === bytes.length ? bytes : Buffer.concat([bytes], length);
}
