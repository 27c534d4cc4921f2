/**
 * Runs the documents beside this file: each `weft` block is a script for a
 * simulated network, and the `text` block behind it is what it must print.
 *
 *   host NAME UNDERLAY
 *   network NAME VNI                       on every host
 *   attach HOST/PORT NETWORK MAC IP… [trust] [ethertype=TYPE]…
 *   trace HOST FLOW
 *   send HOST/PORT KIND [FIELD=VALUE…]     prints what comes out, and what was dropped
 *   flows HOST
 *   advance MILLISECONDS
 *
 * With UPDATE=1 in the environment the documents are written anew, to be read
 * before they are committed.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { formatActions } from '../../src/flow/action.ts';
import { formatMegaflow } from '../../src/flow/key.ts';
import { parseMac } from '../../src/flow/types.ts';
import { reportDecision } from '../../src/observe/decision.ts';
import { parseFlow } from '../../src/observe/flow-spec.ts';
import { createSimulation, type SimulatedHost, type SimulatedPort, type Simulation } from '../../src/simulation.ts';
import { buildIcmp4 } from '../../src/wire/icmp.ts';
import { IP_ICMP } from '../../src/wire/ipv4.ts';
import { summary } from '../../src/wire/summary.ts';
import * as frames from '../support/frames.ts';

const directory = new URL('.', import.meta.url);
const block = /```weft\n([\s\S]*?)```\n(\s*)(?:```text\n([\s\S]*?)```\n)?/g;

class Lab {
  readonly #net: Simulation = createSimulation();
  readonly #hosts = new Map<string, SimulatedHost>();
  readonly #ports = new Map<string, SimulatedPort>();
  readonly #names = new Map<string, number>();

  run(line: string): string[] {
    const [verb, ...args] = line.split(/\s+/);
    switch (verb) {
      case 'host':
        this.#hosts.set(args[0]!, this.#net.host(args[0]!, args[1]!));
        return [];
      case 'network':
        for (const host of this.#hosts.values()) host.createNetwork(args[0]!, Number(args[1]));
        return [];
      case 'attach':
        this.#attach(args);
        return [];
      case 'advance':
        this.#net.advance(Number(args[0]));
        return [];
      case 'trace':
        return this.#trace(args[0]!, args[1]!);
      case 'send':
        return this.#send(args);
      case 'flows':
        return this.#flows(args[0]!);
      default:
        throw new Error(`transcript: "${line}" is not understood`);
    }
  }

  close(): void {
    this.#net.close();
  }

  #attach([place, network, mac, ...rest]: string[]): void {
    const [host, name] = place!.split('/');
    const types = rest.filter((word) => word.startsWith('ethertype='));
    const port = this.#hosts.get(host!)!.attach({
      name: name!,
      network: network!,
      mac: mac!,
      addresses: rest.filter((word) => word !== 'trust' && !types.includes(word)),
      allowedEtherTypes: types.map((word) => Number(word.slice('ethertype='.length))),
      trust: rest.includes('trust'),
    });
    this.#ports.set(place!, port);
    this.#names.set(place!, port.portNo);
  }

  #trace(hostName: string, flow: string): string[] {
    const { forwarding } = this.#hosts.get(hostName)!;
    const key = parseFlow(flow, forwarding.tables, (name) => this.#portNo(hostName, name));
    const report = reportDecision(key, forwarding.controller.decide(key), this.#nameOn(hostName));
    return [
      `Flow: ${report.flow}`,
      ...report.stages.map(
        ({ stage, because, read }) => `${stage}: ${because} (read: ${read.join(', ') || 'nothing more'})`,
      ),
      `Megaflow: ${report.megaflow}`,
      `Actions: ${report.actions}`,
    ];
  }

  #send([place, kind, ...fields]: string[]): string[] {
    const before = this.#drops();
    this.#ports.get(place!)!.send(buildFrame(kind!, Object.fromEntries(fields.map((field) => field.split('=')))));
    const out = [...this.#ports].flatMap(([name, port]) =>
      port.received.splice(0).map((frame) => `${name} gets ${summary(frame)}`),
    );
    const dropped = [...this.#drops()]
      .filter(([name, count]) => count !== (before.get(name) ?? 0))
      .map(([name]) => name);
    return [...out, ...dropped];
  }

  #flows(hostName: string): string[] {
    const { controller } = this.#hosts.get(hostName)!.forwarding;
    const name = this.#nameOn(hostName);
    return [...controller.flows.dump()].map(({ flow, statistics }) => {
      const actions = formatActions(flow.decision.actions, name);
      return `${formatMegaflow(flow.key, flow.decision.mask, name)} packets=${statistics.packets} actions=${actions}`;
    });
  }

  #drops(): Map<string, number> {
    return new Map(
      [...this.#hosts].flatMap(([name, host]) =>
        Object.entries(host.forwarding.datapath.counters().drops).map(
          ([reason, count]) => [`${name} drops it: ${reason}`, count] as const,
        ),
      ),
    );
  }

  #portNo(host: string, name: string) {
    const number = name === 'underlay' ? 1 : this.#names.get(`${host}/${name}`);
    return number as ReturnType<Parameters<typeof parseFlow>[2]>;
  }

  #nameOn(host: string): (port: number) => string {
    return (port) => {
      if (port === 1) return 'underlay';
      const entry = [...this.#names].find(([place, number]) => number === port && place.startsWith(`${host}/`));
      return entry ? entry[0].slice(host.length + 1) : String(port);
    };
  }
}

function buildFrame(kind: string, fields: Record<string, string>): Uint8Array {
  const { from, to, src, dst, sport = '1000', dport = '2000', target, lla, type = '0' } = fields;
  const ends = {
    ...(from !== undefined && { srcMac: from }),
    ...(to !== undefined && { dstMac: to }),
    ...(src !== undefined && { src }),
    ...(dst !== undefined && { dst }),
  };
  const option = (kindOf: number) => (lla === undefined ? [] : [{ type: kindOf, data: parseMac(lla) }]);
  switch (kind) {
    case 'udp':
      return frames.udp(ends, Number(sport), Number(dport));
    case 'tcp':
      return frames.tcp(ends, { sourcePort: Number(sport), destinationPort: Number(dport) });
    case 'ping':
      return frames.echo(ends, 1, 1);
    case 'icmp':
      return frames.ip(ends, IP_ICMP, buildIcmp4({ type: Number(type), code: 0, body: new Uint8Array(12) }));
    case 'ethernet':
      return frames.ethernet(ends, Number(type), new Uint8Array(46));
    case 'arp':
      return frames.arpRequest(ends);
    case 'arp-reply':
      return frames.arpReply(ends);
    case 'solicit':
      return frames.solicitation({ ...ends, target: target!, options: option(1) });
    case 'advertise':
      return frames.advertisement({ ...ends, target: target!, options: option(2) });
    default:
      throw new Error(`transcript: "${kind}" is no kind of frame`);
  }
}

for (const file of readdirSync(directory)
  .filter((name) => name.endsWith('.md'))
  .sort()) {
  const path = new URL(file, directory);
  const document = readFileSync(path, 'utf8');
  const lab = new Lab();
  const found = document.replace(block, (_all, script: string, gap: string) => {
    const output = script
      .split('\n')
      .filter((line) => line.trim() !== '')
      .flatMap((line) => lab.run(line.trim()))
      .join('\n');
    return `\`\`\`weft\n${script}\`\`\`\n${output ? `${gap}\`\`\`text\n${output}\n\`\`\`\n` : gap}`;
  });
  lab.close();
  if (process.env['UPDATE']) writeFileSync(path, found);
  else t.equal(found, document, file);
}
