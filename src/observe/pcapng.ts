/**
 * Captured frames as a pcapng file (draft-ietf-opsawg-pcapng), little endian.
 *
 *   section header · for each port, before its first frame, an interface
 *   description with its name · an enhanced packet for each frame
 *
 * Times are nanoseconds since the epoch. The direction is in epb_flags: frames that the switch
 * received from the port are inbound, frames that it sent there are outbound.
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
  /** Nanoseconds since the epoch. A number is quicker to write; it is exact to 256 of them. */
  readonly timeNs: bigint | number;
  /** Length of the whole frame. */
  readonly lengthBytes: number;
  /** Up to the snap length. */
  readonly bytes: Uint8Array;
}

/** Turns frames into the blocks of one file, in order. Has no file of its own: the caller writes what it returns. */
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
    // The length of the section is not known: -1.
    body.writeBigInt64LE(-1n, 8);
    return block(SECTION_HEADER, [body, option(SHB_USERAPPL, Buffer.from(application)), endOfOptions]);
  }

  /** The descriptions of ports that had no frame before. They must be in the file before the frames. */
  interfaces(frames: readonly PcapngFrame[]): Uint8Array {
    const parts: Uint8Array[] = [];
    for (const { port } of frames) {
      if (this.#interfaces.has(port)) continue;
      this.#interfaces.set(port, this.#interfaces.size);
      parts.push(this.#interface(port));
    }
    return Buffer.concat(parts);
  }

  /** One block for each frame; its port must have been described. */
  frames(frames: readonly PcapngFrame[]): Uint8Array {
    const lengthBytes = frames.reduce((sum, { bytes }) => sum + packetBytes(bytes.length), 0);
    const blocks = Buffer.allocUnsafe(lengthBytes);
    let at = 0;
    for (const frame of frames) at = writePacket(blocks, at, this.#interfaces.get(frame.port)!, frame);
    return blocks;
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

/** Block header, interface, time, lengths, the frame, its direction, the end of options, and the length again. */
function packetBytes(captured: number): number {
  return 28 + ((captured + 3) & ~3) + 8 + 4 + 4;
}

/** @returns where the next block begins */
function writePacket(to: Buffer, at: number, index: number, frame: PcapngFrame): number {
  const { timeNs, bytes, lengthBytes, direction } = frame;
  const padded = (bytes.length + 3) & ~3;
  const length = packetBytes(bytes.length);
  to.writeUInt32LE(ENHANCED_PACKET, at);
  to.writeUInt32LE(length, at + 4);
  to.writeUInt32LE(index, at + 8);
  if (typeof timeNs === 'number') {
    to.writeUInt32LE(Math.floor(timeNs / 2 ** 32), at + 12);
    to.writeUInt32LE(timeNs % 2 ** 32, at + 16);
  } else {
    to.writeUInt32LE(Number(timeNs >> 32n), at + 12);
    to.writeUInt32LE(Number(timeNs & 0xffff_ffffn), at + 16);
  }
  to.writeUInt32LE(bytes.length, at + 20);
  to.writeUInt32LE(lengthBytes, at + 24);
  to.set(bytes, at + 28);
  const options = at + 28 + padded;
  to.fill(0, at + 28 + bytes.length, options);
  to.writeUInt16LE(EPB_FLAGS, options);
  to.writeUInt16LE(4, options + 2);
  to.writeUInt32LE(direction === 'rx' ? INBOUND : OUTBOUND, options + 4);
  to.writeUInt32LE(OPT_END, options + 8);
  to.writeUInt32LE(length, options + 12);
  return at + length;
}

/** Reads files that `Pcapng` has written, blocks by blocks; no others. */
export class PcapngReader {
  readonly #ports: string[] = [];

  /** @param bytes whole blocks; the frames are views of them */
  *read(bytes: Buffer): Generator<PcapngFrame & { readonly timeNs: bigint; readonly endOffset: number }> {
    for (let at = 0; at < bytes.length; ) {
      const endOffset = at + bytes.readUInt32LE(at + 4);
      const type = bytes.readUInt32LE(at);
      if (type === INTERFACE_DESCRIPTION) {
        // The name is the first option.
        this.#ports.push(bytes.toString('utf8', at + 20, at + 20 + bytes.readUInt16LE(at + 18)));
      } else if (type === ENHANCED_PACKET) {
        const captured = bytes.readUInt32LE(at + 20);
        const flags = bytes.readUInt32LE(at + 28 + ((captured + 3) & ~3) + 4);
        yield {
          port: this.#ports[bytes.readUInt32LE(at + 8)] ?? '',
          direction: flags === INBOUND ? 'rx' : 'tx',
          timeNs: (BigInt(bytes.readUInt32LE(at + 12)) << 32n) | BigInt(bytes.readUInt32LE(at + 16)),
          lengthBytes: bytes.readUInt32LE(at + 24),
          bytes: bytes.subarray(at + 28, at + 28 + captured),
          endOffset,
        };
      }
      at = endOffset;
    }
  }
}

/** Type, length, body, length again. The lengths of the parts are multiples of 4. */
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

/** Padded with zeros to a multiple of 4 bytes. */
function padded(bytes: Uint8Array): Uint8Array {
  const length = (bytes.length + 3) & ~3;
  return length === bytes.length ? bytes : Buffer.concat([bytes], length);
}
