/**
 * The addon: its types, how it is found, and the check that it was built with
 * the same tables as this program. Numbers, offsets and names cross between
 * C++ and TypeScript unexplained, so any difference is a fault of the build and
 * is named before a single frame moves.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createRequire } from 'node:module';
import { WeftError } from '../error.ts';
import { packageRoot } from '../package.ts';
import { ACTION_BYTES, opcodes } from '../flow/action.ts';
import { CONNECTION_BYTES, CONNECTION_HALVES, CONNECTION_ORIGINAL, CONNECTION_TRANSLATED } from '../flow/connection.ts';
import { fieldList, KEY_BYTES } from '../flow/fields.ts';
import { ENTROPY_FIRST_PORT, ENTROPY_PORTS } from '../flow/hash.ts';
import type { ExchangeWithNetns } from '../flow/netns-exchange.ts';
import { dropReasons } from '../flow/reason.ts';
import {
  DATAGRAMS_PER_PORT,
  FRAGMENT_TIMEOUT_MS,
  HEAD_BYTES,
  MASK_LIMIT,
  PARKED_FRAGMENTS,
  PARKED_PER_FLOW,
  PENDING_PER_PORT,
  UPCALL_BATCH,
  WAITING_BYTES_PER_PORT,
  WAITING_PER_DATAGRAM,
  type TapOpened,
} from './datapath.ts';
import type { NativeFrameIoClass } from './frame-io.ts';
import type { NativeOffloads } from './kernel-offloads.ts';
import type { TapTarget } from './tap.ts';

/** The class `Datapath` of native/addon.cc. Errors are negative errno. */
export interface NativeDatapath {
  /** "It is now `ms`": stands still until the next call unless threaded. */
  setClock(ms: number): void;
  addTaps(ports: readonly number[], targets: readonly TapTarget[]): (TapOpened | number)[];
  /** What of `RENEWED` (tap.ts) was put back. */
  renewTap(port: number): number;
  addVxlan(port: number, local: Uint8Array, l4Port: number): number;
  addMemory(port: number, offloads: boolean): number;
  addMemoryVxlan(port: number, local: Uint8Array): number;
  /** Each second, burst and queue of ingress, egress and storm; 0 a second: no limit. */
  setLimits(port: number, limits: Float64Array): void;
  /** What waited for its port's rate goes on; with threads it does so by itself. */
  release(): void;
  removePort(port: number, keep: boolean): number;
  /** The port exists and is a memory port. */
  /** `offloads`: flags, gsoType, gsoSize, csumStart, csumOffset of each frame. */
  inject(port: number, frames: readonly Uint8Array[], offloads: Uint16Array): void;
  /** `sources`: 16 bytes each. */
  injectDatagrams(port: number, sources: Uint8Array, payloads: readonly Uint8Array[]): void;
  takeWaiting(): NativeWaiting;
  /** Actions as `encodeActions` gives them. @throws RangeError */
  execute(token: number, actions: Uint8Array): void;
  originate(frame: Uint8Array, actions: Uint8Array): void;
  flowPut(id: number, key: Uint8Array, mask: Uint8Array, actions: Uint8Array): boolean;
  flowDel(id: number): void;
  /** Some hundred flows from `cursor` (0) on; `next` is -1 at the end. */
  flowDump(cursor: number): { flows: Uint8Array; next: number };
  /**
   * Port 0: all. `filter`: code, jumps and k of each instruction; empty: all frames.
   * @throws RangeError for a program that is not valid
   */
  mirrorStart(port: number, snapBytes: number, filter: Uint32Array): void;
  /** What waits is given back. */
  mirrorStop(): NativeMirrored;
  counters(): Float64Array;
  close(): void;
}

/** Packed records, in the byte order of the machine; native-records.ts reads them. */
export interface NativeMirrored {
  readonly mirrored: Uint8Array;
  /** Frames that were left out of `mirrored`. */
  readonly mirrorLost: number;
}

export interface NativeWaiting extends NativeMirrored {
  readonly upcalls: Uint8Array;
  readonly lost: readonly { readonly port: number; readonly errno: number }[];
}

export interface NativeHandlers {
  /** Something waits after nothing did. Called from the event loop, never inside a call. */
  wake(): void;
  /** These two are called inside a call and must not come back in. The bytes are the receiver's. */
  transmit(
    port: number,
    frame: Uint8Array,
    flags: number,
    gsoType: number,
    gsoSize: number,
    csumStart: number,
    csumOffset: number,
  ): void;
  transmitDatagram(port: number, destination: Uint8Array, sourcePort: number, tos: number, payload: Uint8Array): void;
}

export interface AddonLayout {
  /** Offset and size of each field in the key. */
  readonly fields: Readonly<Record<string, readonly [number, number]>>;
  readonly opcodes: Readonly<Record<string, number>>;
  /** By number. */
  readonly reasons: readonly string[];
  readonly numbers: Readonly<Record<string, number>>;
}

export interface Addon {
  readonly layout: AddonLayout;
  readonly Datapath: new (
    workers: number,
    threaded: boolean,
    flowLimit: number,
    copyDscp: boolean,
    connections: Uint8Array,
    handlers: NativeHandlers,
  ) => NativeDatapath;

  readonly FrameIo: NativeFrameIoClass;
  /** A file as memory: made or lengthened, mapped for as long as it is in use. Or -errno. */
  mapFile(path: string, bytes: number): Uint8Array | number;
  /** Bytes that V8 may have for what is not new; above what is live now. */
  limitHeap(bytes: number): void;
  /** Begins a collection that gives memory back; it goes on in turns of its own. */
  trimHeap(): void;
  probeOffloads(): NativeOffloads;
  readonly netnsExchange: ExchangeWithNetns;
  /** Threads that could not be told, or -errno; see native/io/privileges.h. */
  keepCapabilities(bits: bigint): number;
  /** Addresses of 16 bytes. */
  pathMtu(local: Uint8Array, remote: Uint8Array): number;
  routeMtu(local: Uint8Array, remote: Uint8Array): number;
  /** How many, or -errno; addresses one after the other. */
  forgetStaleUdp(own: Uint8Array, targets: Uint8Array, ports: Uint16Array): Promise<number>;
  /** Records of `HOST_CONNECTION_BYTES`; how many there were, or -errno. */
  forgetConnections(connections: Uint8Array): Promise<number>;
}

/** The layout as this program has it. */
export const ownLayout: AddonLayout = {
  fields: Object.fromEntries(fieldList.map(({ name, offset, size }) => [name, [offset, size]])),
  opcodes,
  reasons: dropReasons.map(([name]) => name),
  numbers: {
    KEY_BYTES,
    ACTION_BYTES,
    PENDING_PER_PORT,
    PARKED_PER_FLOW,
    PARKED_FRAGMENTS,
    DATAGRAMS_PER_PORT,
    WAITING_PER_DATAGRAM,
    WAITING_BYTES_PER_PORT,
    FRAGMENT_TIMEOUT_MS,
    MASK_LIMIT,
    HEAD_BYTES,
    UPCALL_BATCH,
    ENTROPY_PORTS,
    ENTROPY_FIRST_PORT,
    CONNECTION_BYTES,
    CONNECTION_ORIGINAL,
    CONNECTION_TRANSLATED,
    CONNECTION_HALVES,
  },
};

const ADDON_PATH = join(packageRoot, 'build/Release/weft.node');
const REMEDY = `compile it with \`npm --prefix ${packageRoot} run install\``;

let loaded: Addon | undefined;

/** @throws WeftError when the addon is missing, cannot be loaded, or was built from other sources. */
export function loadAddon(): Addon {
  if (loaded) return loaded;
  const addon = requireAddon();
  const differences = layoutDifferences(addon.layout, ownLayout);
  if (differences.length > 0) {
    throw new WeftError('system', `the native addon was built from other sources (${someOf(differences)}); ${REMEDY}`);
  }
  loaded = addon;
  return addon;
}

function requireAddon(): Addon {
  try {
    return createRequire(import.meta.url)(ADDON_PATH) as Addon;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new WeftError(
      'system',
      existsSync(ADDON_PATH)
        ? `the native addon cannot be loaded (${why}); ${REMEDY}`
        : `the native addon ${ADDON_PATH} is missing: install scripts did not run, or failed; ${REMEDY}`,
      { cause },
    );
  }
}

/** The first few: one difference in the middle of a list makes all behind it differ. */
function someOf(texts: readonly string[]): string {
  const more = texts.length > 3 ? [`and ${texts.length - 3} more differences`] : [];
  return [...texts.slice(0, 3), ...more].join('; ');
}

/** One sentence for each place where the addon and this program differ. */
export function layoutDifferences(addon: AddonLayout, own: AddonLayout): string[] {
  return [
    ...differences('field', addon.fields, own.fields),
    ...differences('opcode', addon.opcodes, own.opcodes),
    ...differences('drop reason', byNumber(addon.reasons), byNumber(own.reasons)),
    ...differences('', addon.numbers, own.numbers),
  ];
}

function differences(
  what: string,
  addon: Readonly<Record<string, unknown>>,
  own: Readonly<Record<string, unknown>>,
): string[] {
  const names = new Set([...Object.keys(own), ...Object.keys(addon)]);
  const text = (value: unknown) =>
    value === undefined ? 'missing' : Array.isArray(value) ? value.join('+') : JSON.stringify(value);
  return [...names].flatMap((name) => {
    const [theirs, ours] = [text(addon[name]), text(own[name])];
    return theirs === ours ? [] : [`${what ? `${what} ` : ''}${name} is ${theirs} there and ${ours} here`];
  });
}

function byNumber(names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.entries());
}
