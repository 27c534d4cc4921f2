/**
 * A complete switch on a shared store, without devices: everything of weft but TAPs and sockets. The ports of its containers and
 * of the tunnel are in memory, in the reference datapath; the underlay between such switches is a queue.
 */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import pino from 'pino';
import { loadConfig } from '../../../src/config.ts';
import { hostIdentity, IDENTITY_BYTES } from '../../../src/cluster/membership/identity.ts';
import {
  LARGEST_PORT,
  type Datagram,
  type Datapath,
  type DatapathOptions,
  type Injectable,
  type NewPort,
  type PortSpec,
} from '../../../src/datapath/datapath.ts';
import { openReferenceDatapath } from '../../../src/datapath/reference/reference.ts';
import { bytesId } from '../../../src/flow/key.ts';
import type { PortNo } from '../../../src/flow/types.ts';
import { NetnsWatcher } from '../../../src/link/netns-watcher.ts';
import { EventLoopDelay } from '../../../src/metrics/event-loop.ts';
import { joinParts, UNDERLAY_PORT, type Parts } from '../../../src/parts.ts';
import { openStores } from '../../../src/stores.ts';
import { Switch } from '../../../src/switch.ts';
import { monotonicMs } from '../../support/process.ts';

/** How often a host looks for probes that are due, and how often one is: many hosts share a processor here. */
const PROBED_EVERY_MS = 250;
const LIVENESS = { intervalMs: 3000, multiplier: 3 };

const after = (delayMs: number, work: () => void): (() => void) => {
  const timeout = setTimeout(work, delayMs);
  return () => clearTimeout(timeout);
};

/** The underlay: datagrams go from one host to the other in the order in which they were sent. */
export class Wire {
  readonly #datapaths = new Map<string, Injectable>();
  readonly #queue: Datagram[] = [];
  #isScheduled = false;

  join(underlay: Uint8Array, datapath: Injectable): void {
    this.#datapaths.set(bytesId(underlay), datapath);
  }

  leave(underlay: Uint8Array): void {
    this.#datapaths.delete(bytesId(underlay));
  }

  send(datagram: Datagram): void {
    this.#queue.push(datagram);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      for (const one of this.#queue.splice(0)) {
        this.#datapaths.get(bytesId(one.destination))?.injectDatagram(UNDERLAY_PORT, one);
      }
    });
  }
}

export interface SimulatedSwitchOptions {
  readonly name: string;
  /** An address of this network namespace. */
  readonly underlay: string;
  readonly state: string;
  /** `etcd://HOST:PORT` */
  readonly store: string;
  readonly wire: Wire;
  /** Called with each frame to a container. */
  readonly onFrame: (endpoint: string, frame: Uint8Array) => void;
}

export class SimulatedSwitch {
  readonly sw: Switch;
  readonly parts: Parts;
  readonly #datapath: Datapath & Injectable;
  readonly #probing: NodeJS.Timeout;

  private constructor(sw: Switch, parts: Parts, datapath: Datapath & Injectable) {
    this.sw = sw;
    this.parts = parts;
    this.#datapath = datapath;
    this.#probing = setInterval(() => datapath.liveness.run(), PROBED_EVERY_MS);
  }

  /** Resolves when it forwards. */
  static async open({ name, underlay, state, store, wire, onFrame }: SimulatedSwitchOptions): Promise<SimulatedSwitch> {
    const options = {
      ...loadConfig({ host: name, underlay, state, store, datapath: 'reference' }),
      liveness: LIVENESS,
      connections: 1024,
      flowLimit: 10_000,
      logger: pino({ level: 'silent' }),
    };
    const means = { after, clock: monotonicMs, wallClock: Date.now, random: Math.random, onWarning: () => {} };
    const stores = await openStores(options, means);
    const { own } = stores;
    const identity = await hostIdentity(own, () => randomBytes(IDENTITY_BYTES));
    let datapath: (Datapath & Injectable) | undefined;
    let parts: Parts | undefined;
    const openDatapath = (given: DatapathOptions): Datapath => (datapath = openInMemory(given, wire, onFrame));
    const sw: Switch = new Switch(
      options,
      () => {},
      (upkeep) =>
        (parts = joinParts(options, {
          ...{ ...stores, openDatapath, identity, after },
          natKey: randomBytes(8),
          randomHostId: () => randomBytes(3),
          session: randomBytes(8),
          randomKey: () => randomBytes(32),
          watcher: new NetnsWatcher(setInterval),
          probe: () => undefined,
          clock: monotonicMs,
          wallClock: Date.now,
          later: setImmediate,
          newId: () => randomBytes(16).toString('hex'),
          eventLoop: new EventLoopDelay({ clock: monotonicMs, every: setInterval }),
          status: () => sw.status(),
          onPortLost: (port, why) => upkeep.onPortLost(port, why),
          onNamespaceGone: (gone) => upkeep.onNamespaceGone(gone),
        })),
    );
    await sw.life.start();
    return new SimulatedSwitch(sw, parts!, datapath!);
  }

  /** A frame from a container. */
  inject(endpoint: string, frame: Uint8Array): void {
    const { local } = this.parts.endpoints.get(endpoint);
    this.#datapath.inject(local!.portNo as PortNo, frame);
  }

  async close(): Promise<void> {
    clearInterval(this.#probing);
    await this.sw.close();
  }
}

/** The reference datapath, whose ports are in memory whatever is asked for. */
function openInMemory(
  options: DatapathOptions,
  wire: Wire,
  onFrame: (endpoint: string, frame: Uint8Array) => void,
): Datapath & Injectable {
  const datapath = openReferenceDatapath(options);
  const portsAdd = datapath.portsAdd.bind(datapath);
  const close = datapath.close.bind(datapath);
  let underlay: Uint8Array | undefined;
  datapath.close = () => {
    if (underlay) wire.leave(underlay);
    close();
  };
  datapath.portsAdd = (ports) => {
    const opened = portsAdd(ports.map(({ port, spec }) => ({ port, spec: inMemory(spec) })));
    return opened.map((result, at) => result ?? tapOpened(ports[at]!));
  };
  const inMemory = (spec: PortSpec): PortSpec => {
    if (spec.kind === 'vxlan') {
      underlay = spec.local;
      wire.join(underlay, datapath);
      const { name, local, rates } = spec;
      return {
        kind: 'memory-vxlan',
        name,
        local,
        transmit: (datagram) => wire.send(datagram),
        ...(rates && { rates }),
      };
    }
    if (spec.kind !== 'tap') return spec;
    const { name, place, rates } = spec;
    const transmit = (frame: Uint8Array): void => onFrame(name, frame);
    return { kind: 'memory', name, transmit, ...(place && { place }), ...(rates && { rates }) };
  };
  return datapath;
}

/** What a TAP would say of itself. */
function tapOpened({ port, spec }: NewPort) {
  if (spec.kind !== 'tap') return undefined;
  const { dev, ino } = statSync(spec.netns, { bigint: true });
  const ifindex = spec.known?.ifindex ?? LARGEST_PORT + port;
  return { dev, ino, ifindex, queues: 1, created: spec.known === undefined };
}
