/**
 * The host's side of the outside, with real packets.
 *
 *   ┌ client ┐ eth0 ── eth0 ┌ host: the process ┐ weft0 ── weft0 ┌ inside ┐
 *   └ .2 ::2 ┘              └ .1 ::1  .3        ┘                └ transit addresses: it stands for the switch
 *     192.0.2.0/24, 2001:db8::/64                    169.254.77.0/30, fd77:6566:7430::/126
 *
 * Tests about the TAP itself let a datapath create it instead of the cable.
 */
import type { Test } from 'tap';
import { transit } from '../../src/outside/link.ts';
import type { OutsideState } from '../../src/outside/state.ts';
import type { PublishedPort } from '../../src/model/publish.ts';
import { bundled } from '../support/bundled.ts';
import { openLab, type Lab, type Namespace } from '../support/lab.ts';
import { until, type Background } from '../support/process.ts';
import { python } from '../support/traffic.ts';
import { macs, type Request } from './outside.process.ts';

export const command = [process.execPath, bundled(new URL('./outside.process.ts', import.meta.url))];

interface Said {
  readonly reply?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: string; readonly message: string };
  readonly log?: { readonly message: string; readonly details: { readonly changed?: readonly string[] } };
  /** Rules that were in force when the interface was opened. */
  readonly opened?: string;
}

/** Controls the process by requests and replies. */
class Opener {
  readonly process: Background;
  #answered = 0;

  constructor(process: Background) {
    this.process = process;
  }

  said(): Said[] {
    return this.process.lines.map(({ text }) => JSON.parse(text) as Said);
  }

  async ask(request: Request): Promise<Said> {
    this.process.write(`${JSON.stringify(request)}\n`);
    const index = this.#answered++;
    return until(() => this.said().filter(({ reply, error }) => reply ?? error)[index], {
      what: `answer to ${request.op}\n${this.process.stderr}`,
    });
  }

  /** A request that must succeed. */
  async do(request: Request): Promise<Readonly<Record<string, unknown>>> {
    const { reply, error } = await this.ask(request);
    if (!reply) throw new Error(`${request.op}: ${error?.message}`);
    return reply;
  }

  async inspect(): Promise<OutsideState> {
    return (await this.do({ op: 'inspect' })) as unknown as OutsideState;
  }
}

export const startOpener = (host: Namespace, inside = command): Opener => new Opener(host.start(inside));

interface Place {
  readonly lab: Lab;
  readonly client: Namespace;
  readonly host: Namespace;
  readonly inside: Namespace;
  readonly opener: Opener;
}

export const own = { 4: '192.0.2.1', 6: '2001:db8::1' } as const;
export const second = '192.0.2.3';
export const clientIp = { 4: '192.0.2.2', 6: '2001:db8::2' } as const;
export const weftIp = { 4: transit.ip4.weft, 6: transit.ip6.weft } as const;
export const families = [4, 6] as const;
export const bracketed = (ip: string): string => (ip.includes(':') ? `[${ip}]` : ip);

export async function place(t: Test): Promise<Place> {
  const lab = openLab(t);
  const [client, host, inside] = [
    await lab.namespace('client'),
    await lab.namespace('host'),
    await lab.namespace('in'),
  ];
  await lab.cable(client, 'eth0', host, 'eth0');
  for (const family of families) {
    const length = family === 4 ? '/24' : '/64 nodad';
    await client.ip(`address add ${clientIp[family]}${length} dev eth0`);
    await host.ip(`address add ${own[family]}${length} dev eth0`);
  }
  await host.ip(`address add ${second}/24 dev eth0`);
  await lab.cable(host, 'weft0', inside, 'weft0');
  await inside.ip(`link set weft0 address ${macs.weftMac}`);
  for (const { host: gateway, weft, prefixLength } of [transit.ip4, transit.ip6]) {
    const isV4 = !weft.includes(':');
    await inside.ip(`address add ${weft}/${prefixLength} dev weft0${isV4 ? '' : ' nodad'}`);
    await inside.ip(`${isV4 ? '-4' : '-6'} route add default via ${gateway}`);
    await inside.ip(`neighbor replace ${gateway} lladdr ${macs.hostMac} dev weft0 nud permanent`);
  }
  // The strictest setting that a host can have.
  await host.run(['sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1']);
  return { lab, client, host, inside, opener: startOpener(host) };
}

/** A TCP server that tells each client the client's address, and then repeats what it receives. */
export async function tellPeer(at: Namespace, port: number): Promise<Background> {
  const server = at.start(python('tell_peer.py', port));
  await server.says('ready');
  return server;
}

/**
 * The client's address as the server at the other end sees it; undefined if there is no answer. The client sends
 * nothing, and the server closes the connection when it has seen the end of the input.
 */
export async function seenAs(from: Namespace, ip: string, port: number): Promise<string | undefined> {
  const server = `TCP:${bracketed(ip)}:${port},connect-timeout=0.5`;
  const { code, stdout } = await from.attempt(['socat', '-t', '30', '-', server]);
  return code === 0 && stdout !== '' ? stdout.split('\n')[0] : undefined;
}

/** True if a UDP request is answered. */
export const isAnswered = async (from: Namespace, ip: string, port: number): Promise<boolean> =>
  (await from.attempt(python('udp_ask.py', ip, port, 1))).code === 0;

/** How many packets a rule with this comment has counted. */
export async function counted(host: Namespace, comment: string): Promise<number> {
  const rules = await host.run(['nft', 'list', 'table', 'inet', 'weft']);
  const found = [...rules.matchAll(/counter packets (\d+) .*comment "([^"]+)"/g)].filter(
    ([, , text]) => text === comment,
  );
  return found.reduce((sum, [, packets]) => sum + Number(packets), 0);
}

export const tcp = (hostPort: number, hostIp?: string): PublishedPort[] =>
  families
    .filter((family) => hostIp === undefined || (family === 6) === hostIp.includes(':'))
    .map((family) => ({ family, protocol: 'TCP', hostPort, ...(hostIp !== undefined && { hostIp }) }));
export const udp = (hostPort: number): PublishedPort[] =>
  families.map((family) => ({ family, protocol: 'UDP', hostPort }));
