/** The addon: the interface that it offers to this program, and how it is found and loaded. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { WeftError } from '../error.ts';
import type { ExchangeWithNetns } from '../flow/netns-exchange.ts';
import { packageRoot } from '../package.ts';
import { layoutDifferences, ownLayout, type AddonLayout } from './layout.ts';
import type { NativeConnectionTableClass } from './native-connections.ts';
import type { NativeDatapathClass } from './native-datapath.ts';
import type { NativeFrameIoClass } from './native-frame-io.ts';
import type { PassingAddon } from './native-passing.ts';

/** As the addon returns it: 0 or 1, and kOffload… of native/io/tap.h; a negative errno if it could not be tried. */
export interface NativeOffloads {
  readonly cuts: number;
  readonly gathers: number;
  readonly tap: number;
}

/** How a program ended, see native/io/command.h. */
export interface EndedCommand {
  /** 0, or a negative errno: it was not started, or (-ETIME) it was killed because it did not end. */
  readonly result: number;
  /** Its exit code, if no signal ended it. */
  readonly exitCode: number;
  /** The number of the signal that ended it, otherwise 0. */
  readonly signal: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Addon extends PassingAddon {
  readonly layout: AddonLayout;
  readonly Connections: NativeConnectionTableClass;
  readonly Datapath: NativeDatapathClass;
  readonly FrameIo: NativeFrameIoClass;
  /**
   * Maps a file into memory for as long as the memory is in use; creates, extends or truncates it as needed. Returns
   * -errno on failure. `populate` allocates the pages.
   */
  mapFile(path: string, bytes: number): Uint8Array | number;
  /** flock(2), without waiting. Returns false if another open file holds the lock, and -errno on failure. */
  lock(descriptor: number): boolean | number;
  /** Allocates the pages of a part of such memory. Returns 0 or an errno. */
  populate(memory: Uint8Array, from: number, bytes: number): number;
  /** Sets how many bytes V8's old generation may have beyond what is live now. */
  limitHeap(bytes: number): void;
  /** Starts a garbage collection that returns memory to the system. It continues in turns of its own. */
  trimHeap(): void;
  probeOffloads(): NativeOffloads;
  /** Runs a program to its end, in the network namespace of that descriptor, or in this one (-1). PATH is `path`. */
  runCommand(
    words: readonly string[],
    path: string,
    input: string,
    netns: number,
    longestMs: number,
  ): Promise<EndedCommand>;
  /**
   * Starts a program that runs beside this one, by its path and arguments. Returns its process, and a descriptor whose reads and
   * writes wait for no longer than this, or -errno; see native/io/partner.h.
   */
  startPartner(words: readonly string[], input: string, waitMs: number): readonly [number, number] | number;
  /** Kills it, once. */
  endPartner(pid: number): void;
  /** Of a process that such a program is: it can only compute and talk over its socket. Returns 0 or -errno. */
  confine(parent: number): number;
  readonly netnsExchange: ExchangeWithNetns;
  /** Returns a descriptor, or -errno. */
  createNetns(): number;
  /** Returns a descriptor, or -errno. The address has 16 bytes. */
  openUdp(netns: string, address: Uint8Array, l4Port: number, receiveBytes: number): number;
  /** Returns 0 or -errno. Concerns only the calling thread. */
  enterNetns(descriptor: number): number;
  /** Returns the number of the last change of nftables in the namespace of this process, or -errno. */
  rulesetGeneration(): number;
  /** Returns the number of threads that could not be reached, or -errno; see native/io/privileges.h. */
  keepCapabilities(bits: bigint): number;
  /** Addresses of 16 bytes, concatenated. Returns two numbers for each remote one; see native/io/path_mtu.h. */
  pathMtus(local: Uint8Array, remotes: Uint8Array): Int32Array;
  /** Returns how many were deleted, or -errno. Addresses are concatenated; fronts are records of `FRONT_BYTES`. */
  forgetStaleUdp(own: Uint8Array, targets: Uint8Array, ports: Uint16Array, fronts: Uint8Array): Promise<number>;
  /** Takes records of `HOST_CONNECTION_BYTES`. Returns how many of them existed, or -errno. */
  forgetConnections(connections: Uint8Array): Promise<number>;
}

const COMPILED = join(packageRoot, 'build/Release/weft.node');
const REMEDY = `compile it with \`npm --prefix ${packageRoot} run install\``;

let loaded: Addon | undefined;

/** @throws WeftError if the addon is missing, cannot be loaded, or was built from other sources. */
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
  const path = existsSync(COMPILED) ? COMPILED : prebuilt();
  if (path === undefined) {
    throw new WeftError(
      'system',
      `the native addon ${COMPILED} is missing: install scripts did not run, or failed, and none for this machine came with the package; ${REMEDY}`,
    );
  }
  try {
    return createRequire(import.meta.url)(path) as Addon;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new WeftError('system', `the native addon cannot be loaded (${why}); ${REMEDY}`, { cause });
  }
}

/** The path of the one that came with the package for this machine. Its finder is only loaded where it is needed. */
function prebuilt(): string | undefined {
  try {
    const { path } = createRequire(import.meta.url)('node-gyp-build') as {
      readonly path: (directory: string) => string;
    };
    return path(packageRoot);
  } catch {
    return undefined;
  }
}

/** The first few: one difference in the middle of a list makes everything after it differ. */
function someOf(texts: readonly string[]): string {
  const more = texts.length > 3 ? [`and ${texts.length - 3} more differences`] : [];
  return [...texts.slice(0, 3), ...more].join('; ');
}
