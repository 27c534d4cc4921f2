/**
 * A process that opens the outside of the namespace that it is in. It reads requests from
 * standard input and writes one JSON value on each line: a reply to each request, log messages,
 * and the rules that are in force when it opens the interface.
 */
import { execFileSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { openPort, type Datapath } from '../../src/datapath/datapath.ts';
import { FrameIo } from '../../src/datapath/reference/frame-io.ts';
import { forgetStaleUdp } from '../../src/addon/host-connections.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { WeftError } from '../../src/error.ts';
import type { PortNo } from '../../src/flow/types.ts';
import { OWN_NETNS } from '../../src/link/netns.ts';
import { KeptRules } from '../../src/outside/kept-rules.ts';
import { openOutside, OUTSIDE_IFNAME, removeLeftOutside, transit, type OutsideLink } from '../../src/outside/link.ts';
import type { PublishedPort, ServiceAddressPort } from '../../src/model/publish.ts';
import type { AllowHost } from '../../src/outside/rules.ts';
import { inspectOutside } from '../../src/outside/state.ts';

export type Request =
  /** Creates the interface first if a datapath is named. */
  | {
      readonly op: 'open';
      readonly datapath?: 'native' | 'reference';
      readonly published?: readonly PublishedPort[];
      readonly addresses?: readonly ServiceAddressPort[];
      readonly allowHost?: AllowHost;
    }
  | {
      readonly op: 'update';
      readonly published: readonly PublishedPort[];
      readonly addresses?: readonly ServiceAddressPort[];
    }
  | { readonly op: 'renew' }
  | { readonly op: 'inspect' }
  | { readonly op: 'removeLeft' }
  | { readonly op: 'close' };

export const macs = { hostMac: '02:77:65:00:00:01', weftMac: '02:77:65:00:00:02' } as const;

const PORT = 3 as PortNo;

const say = (value: object): void => console.log(JSON.stringify(value));

let datapath: Datapath | undefined;
let outside: OutsideLink | undefined;
/** Nothing is kept there. */
const kept = new KeptRules('/nonexistent/rules');
let allowHost: AllowHost = false;

function openDatapath(kind: 'native' | 'reference'): Datapath {
  const options = { flowCap: 100, clock: () => 0, onUpcall: () => {}, onPortLost: () => {} };
  if (kind === 'native') return openNativeDatapath({ ...options, threads: 2 });
  return openReferenceDatapath({ ...options, io: (onWake, onLost) => new FrameIo(onWake, onLost) });
}

async function run(request: Request): Promise<object> {
  switch (request.op) {
    case 'open': {
      const entries = { ports: request.published ?? [], addresses: request.addresses ?? [] };
      ({ allowHost = false } = request);
      let created: boolean | undefined;
      const openLink = (): number => {
        say({ opened: execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' }) });
        if (!request.datapath) return 0;
        datapath = openDatapath(request.datapath);
        const spec = { kind: 'tap', name: OUTSIDE_IFNAME, netns: OWN_NETNS, ifname: OUTSIDE_IFNAME } as const;
        const opened = openPort(datapath, PORT, spec)!;
        ({ created } = opened);
        return opened.ifindex;
      };
      const closeLink = (): void => {
        datapath?.portDel(PORT);
        datapath?.close();
        datapath = undefined;
      };
      const warn = (message: string, details: object): void => say({ log: { message, details } });
      const link = {
        ifname: OUTSIDE_IFNAME,
        transit,
        ...macs,
        mtu: 1500,
        vxlanPort: 4789,
        openLink,
        closeLink,
        forgetStaleUdp,
        left: (): undefined => undefined,
        kept,
      };
      outside = await openOutside({ ...link, entries, allowHost, warn });
      return { created, hasIp6: outside.hasIp6 };
    }
    case 'update':
      await outside!.update({ ports: request.published, addresses: request.addresses ?? [] });
      return {};
    case 'renew':
      return { renewed: await outside!.renew() };
    case 'inspect':
      return inspectOutside(outside, allowHost);
    case 'removeLeft':
      return { removed: await removeLeftOutside({ ifname: OUTSIDE_IFNAME, ...macs, left: () => undefined, kept }) };
    case 'close':
      await outside!.close();
      outside = undefined;
      return {};
    default:
      return request satisfies never;
  }
}

if (process.argv[1]?.endsWith('outside.process.mjs')) {
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      say({ reply: await run(JSON.parse(line) as Request) });
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      say({ error: { code: error.code, message: error.message } });
    }
  }
}
