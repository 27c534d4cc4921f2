/** Random bursts: streams of a few flows in frames and superframes, and wrong virtio_net_hdrs. */
import type { OffloadedFrame } from '../../src/datapath/datapath.ts';
import type { Offload } from '../../src/flow/offload.ts';
import * as frames from './frames.ts';
import { ends4, ends6, l4Ports, mutate } from './random-frames.ts';
import type { Random } from './random.ts';
import { frameOf, partialOf, superframeOf, type Stretch } from './superframes.ts';

/**
 * A burst that one read of a TAP may bring: streams of a few flows that take turns, some in
 * superframes, some with partial checksums or checksums that are said to be valid; now and then
 * a frame of another kind that interrupts a stream. The offload requests are right unless the
 * caller breaks them (`mutateOffload`).
 */
export function randomBurst(random: Random, others: () => Uint8Array): OffloadedFrame[] {
  const streams = Array.from({ length: random.pick([1, 1, 2, 3, 12]) }, () => randomStream(random));
  const size = random.pick([1, 2, 4, 10, 30, 70]);
  return Array.from({ length: size }, () =>
    random.chance(0.04) ? { frame: others() } : nextOf(random.pick(streams), random),
  );
}

type Stream = { -readonly [K in keyof Stretch]: Stretch[K] } & {
  readonly ends: frames.Ends;
  readonly segmentBytes: number;
  sequence: number;
  id: number;
};

function randomStream(random: Random): Stream {
  const family = random.chance(0.5) ? 4 : 6;
  const { ip4: _, ip6: __, ...ends } = family === 4 ? ends4(random) : ends6(random);
  return {
    family,
    protocol: random.chance(0.6) ? 'tcp' : 'udp',
    ends,
    payload: new Uint8Array(),
    segmentBytes: random.pick([1, 2, 99, 100, 100, 536, 1448, 1448, 8000]),
    sourcePort: random.pick(l4Ports),
    sequence: random.pick([0, 1000, 0xffff_f000]),
    id: random.pick([0, 0xfffa]),
    dontFragment: random.chance(0.5),
    ipOptions: new Uint8Array(random.chance(0.1) ? random.int(11) * 4 : 0),
    extension: family === 6 && random.chance(0.1),
    tcpOptions: new Uint8Array(random.pick([0, 0, 12, 40])).fill(1),
    flags: 16,
    acknowledgment: 1,
    window: 500,
    tos: random.pick([0, 0, 0xb8, 3]),
    flowLabel: random.pick([0, 0x12345]),
  };
}

/** The next frame of a stream: mostly one that continues it, sometimes one that does not. */
function nextOf(stream: Stream, random: Random): OffloadedFrame {
  disturb(stream, random);
  const { segmentBytes } = stream;
  const isSuperframe = random.chance(0.1);
  const segments = isSuperframe ? random.pick([1, 2, 3, 7, 40]) : 1;
  const short = random.chance(0.08) ? random.int(segmentBytes) : 0;
  const lengthBytes = random.chance(0.03) ? 0 : Math.min(segments * segmentBytes, 65_000) - short;
  const payload = new Uint8Array(lengthBytes).fill(stream.sequence >>> 4);
  const flags = 16 | (random.chance(0.1) ? 8 : 0) | (random.chance(0.05) ? 1 << random.int(8) : 0);
  const made = { ...stream, payload, flags };
  stream.sequence = (stream.sequence + lengthBytes) >>> 0;
  stream.id = (stream.id + segments) & 0xffff;
  if (isSuperframe) {
    const superframe = superframeOf(made, segmentBytes);
    const { gsoType } = superframe.offload;
    if (stream.protocol === 'udp' || !random.chance(0.2)) return superframe;
    return { ...superframe, offload: { ...superframe.offload, gsoType: gsoType | 0x80 } };
  }
  switch (random.int(4)) {
    case 0:
      return partialOf(made);
    case 1:
      return { frame: frameOf(made), offload: { flags: 2, gsoType: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 } };
    default:
      return { frame: random.chance(0.05) ? frames.unfinished(frameOf(made)) : frameOf(made) };
  }
}

/** Now and then changes something about a stream that keeps its frames from merging. */
function disturb(stream: Stream, random: Random): void {
  if (!random.chance(0.06)) return;
  switch (random.int(7)) {
    case 0:
      stream.sequence = (stream.sequence + random.pick([1, 100, -100])) >>> 0;
      break;
    case 1:
      stream.id = (stream.id + 1) & 0xffff;
      break;
    case 2:
      stream.acknowledgment = random.int(3);
      break;
    case 3:
      stream.window = random.int(3);
      break;
    case 4:
      stream.tos = random.int(4);
      break;
    case 5:
      stream.tcpOptions = new Uint8Array(random.int(3) * 4);
      break;
    default:
      stream.dontFragment = random.chance(0.5);
  }
}

/** Breaks the offload request of a frame, as a hostile container would. */
export function mutateOffload({ frame, offload }: OffloadedFrame, random: Random): OffloadedFrame {
  const { flags, gsoType, gsoSize, csumStart, csumOffset } = offload ?? none;
  const u16 = (right: number) =>
    random.pick([0, 1, right - 1, right + 1, right + 2, frame.length - 2, frame.length, 65_535, random.int(65_536)]) &
    0xffff;
  const broken = { flags, gsoType, gsoSize, csumStart, csumOffset };
  do {
    switch (random.int(6)) {
      case 0:
        broken.flags = random.pick([0, 1, 2, 3, flags ^ (1 << random.int(8)), random.int(256)]);
        break;
      case 1:
        broken.gsoType = random.pick([0, 1, 3, 4, 5, 0x80, 0x81, 0x84, 0x85, random.int(256)]);
        break;
      case 2:
        broken.gsoSize = u16(gsoSize);
        break;
      case 3:
        broken.csumStart = random.pick([13, 14, 34, 38, 54, 58, u16(csumStart)]);
        break;
      case 4:
        broken.csumOffset = random.pick([6, 16, u16(csumOffset)]);
        break;
      default:
        return { frame: mutate(frame, random), offload: broken };
    }
  } while (random.chance(0.3));
  return { frame, offload: broken };
}

const none: Offload = { flags: 0, gsoType: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };
