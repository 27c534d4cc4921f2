/** `weft attach`: connects a namespace or a process's namespace to a network. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { NamedPortOptions } from '../model/named-port.ts';
import type { PublishOptions } from '../model/publish.ts';
import type { AttachRequest, RateLimitChange } from '../api/target.ts';
import { endpointTable } from './endpoint-table.ts';
import { parseLabels, parseName } from './kind.ts';
import { namingOptions, type NamedOption } from './naming-options.ts';
import { print } from './print.ts';
import { idOf } from '../model/name.ts';
import { clientOf, collect, count, globals, note, verb } from './verb.ts';
import { addWait, waitIfAsked, type WaitOptions } from './wait.ts';

interface Options extends WaitOptions {
  readonly network: string;
  readonly netns?: string;
  readonly pid?: number;
  readonly ip?: string[];
  readonly mac?: string;
  readonly ifname?: string;
  readonly namespace?: string;
  readonly label?: string[];
  readonly alias?: string[];
  readonly wildcard?: boolean;
  readonly ethertype?: string[];
  readonly trust?: boolean;
  readonly port?: string[];
  readonly publish?: string[];
  readonly rateLimit?: string;
  readonly move?: boolean;
}

/** Names each option by the field of the request, or of the resource, that it sets. */
const optionOf = {
  name: ['NAME'],
  network: ['--network'],
  netns: ['--netns'],
  pid: ['--pid'],
  ip: ['--ip'],
  addresses: ['--ip'],
  mac: ['--mac'],
  ifname: ['--ifname'],
  interface: ['--ifname'],
  namespace: ['--namespace'],
  labels: ['--label'],
  aliases: ['--alias'],
  wildcard: ['--wildcard'],
  ethertypes: ['--ethertype'],
  allowedEtherTypes: ['--ethertype'],
  ports: ['--port'],
  publish: ['--publish'],
  rateLimit: ['--rate-limit'],
} as const satisfies Record<string, NamedOption>;

export function attach(program: Command): void {
  const command = verb(program, 'attach <name>', {
    summary: 'connect a network namespace to a network, as endpoint NAME',
    examples: [
      'weft attach web --network blue --netns web',
      'weft attach db --network blue --pid 4711 --ip 10.0.0.7 --label app=db',
      'weft attach fw --network blue --netns /run/netns/fw --ifname eth1 --trust',
      'weft attach web --network blue --netns web --port http=8080 --port dns=53/udp',
      'weft attach web --network blue --netns web --publish 8080:80 --publish 192.0.2.1:5353:53/udp',
      'weft attach web --network blue --netns web --rate-limit ingress=50mbit,egress=1gbit',
      'weft attach web --network blue --netns web --rate-limit none --publish none --label app-',
      'weft attach web --network blue --netns web --move --wait',
    ],
  });
  addWait(command)
    .requiredOption('--network <name>', 'the network')
    .option('--netns <name|path>', 'the namespace: a name as in `ip netns`, or a path')
    .option('--pid <pid>', 'a process in the namespace', count(1))
    .option('--ip <address>', 'address; may be given several times (default: taken from the subnets)', collect)
    .option('--mac <mac>', 'MAC address (default: chosen by weft)')
    .option('--ifname <name>', 'interface inside the namespace (default: eth0)')
    .option('-n, --namespace <name>', 'namespace of the endpoint, as in Kubernetes (default: default)')
    .option('--label <key=value>', 'label, or KEY- to take it away; may be given several times', collect)
    .option(
      '--alias <name>',
      'another name in its network, which others may have, too; repeatable, and the list is complete; none removes all',
      collect,
    )
    .option('--wildcard', 'names below its own mean it, too: *.NAME.NETWORK.weft')
    .option('--no-wildcard', 'take them away')
    .option(
      '--ethertype <type>',
      'EtherType that it may send besides IPv4, IPv6 and ARP, such as 0x88f7; repeatable, and the list is complete; none removes all',
      collect,
    )
    .option('--trust', 'lift anti-spoofing: a router or a nested switch is behind this port')
    .option('--no-trust', 'put anti-spoofing back')
    .option(
      '--port <name=port[/proto]>',
      'name of one of its ports, tcp or udp (default: tcp), which Services find by it; repeatable, and the list is complete; none removes all',
      collect,
    )
    .option(
      '--publish <[ip:]hostport:port[/proto]>',
      'publish a port of this host, tcp or udp (default: tcp); repeatable, and the list is complete; none removes all',
      collect,
    )
    .option(
      '--rate-limit <rate>',
      'at most so much each way, or ingress=RATE (from the container), egress=RATE (to the container) or both with a comma; a RATE is a number and bit, kbit, mbit, gbit (bits a second) or bps, kbps, mbps, gbps (bytes a second), or none to take the limit away',
    )
    .option('--move', 'take the endpoint over from another host, with its addresses and its MAC')
    .addHelpText(
      'after',
      `
Attaching again changes what its options name, and nothing else. What they gave is
taken away by: --label KEY-, --alias none, --ethertype none, --port none, --publish none, --rate-limit none (or
ingress=none), --no-trust, --no-wildcard.`,
    )
    .action(async (given: string, options: Options) => {
      const { name, namespace } = parseName(given, options, command);
      const { netns, pid, label, port, publish, ...rest } = options;
      if ((netns === undefined) === (pid === undefined)) command.error('error: give one of --netns and --pid');
      const request: AttachRequest = {
        name,
        network: rest.network,
        ...(netns !== undefined && { netns: netns.includes('/') ? resolve(netns) : netns }),
        ...(pid !== undefined && { pid }),
        ...(rest.ip && { ip: rest.ip }),
        ...(rest.mac !== undefined && { mac: rest.mac }),
        ...(rest.ifname !== undefined && { ifname: rest.ifname }),
        ...(namespace !== undefined && { namespace }),
        ...(label && { labels: parseLabels(label, '--label ', command) }),
        ...(rest.alias && { aliases: rest.alias.join() === 'none' ? [] : rest.alias }),
        ...(rest.wildcard !== undefined && { wildcard: rest.wildcard }),
        ...(rest.ethertype && { ethertypes: rest.ethertype.join() === 'none' ? [] : rest.ethertype }),
        ...(rest.trust !== undefined && { trust: rest.trust }),
        ...(port && { ports: parsePorts(port, command) }),
        ...(publish && { publish: parsePublished(publish, command) }),
        ...(rest.rateLimit !== undefined && { rateLimit: parseRateLimit(rest.rateLimit, command) }),
        ...(rest.move && { move: true }),
      };
      const texts = {
        ...(port && { ports: ['--port', ...port] as const }),
        ...(publish && { publish: ['--publish', ...publish] as const }),
      };
      const report = await namingOptions({ ...optionOf, ...texts }, () => clientOf(command).attach(request));
      await print(globals(command).output, report, () => endpointTable([report]));
      await waitIfAsked(options, command, [{ ...report, kind: 'Endpoint' }]);
      if (report.takenFrom !== undefined)
        note(`endpoint "${idOf(report)}": it was on host "${report.takenFrom}", which does not run: it is taken over`);
      if (report.wasNowhere) note(`endpoint "${idOf(report)}": no host had it: it is attached as a new one`);
      if (report.state === 'waiting') {
        const why = report.problems?.join('; ') ?? 'its interface cannot be opened';
        note(`endpoint "${idOf(report)}" waits, and is tried every second: ${why}`);
      }
      // Whoever has waited knows that the store has it.
      if (report.pending !== undefined && options.wait === undefined)
        note(`endpoint "${idOf(report)}": ${report.pending}`);
    });
}

/** `none` alone means no names at all. The daemon checks the values. */
function parsePorts(texts: readonly string[], command: Command): NamedPortOptions[] {
  if (texts.length === 1 && texts[0] === 'none') return [];
  return texts.map((text) => {
    const [, name, port, protocol = 'tcp'] = /^([^=]*)=(\d+)(?:\/(tcp|udp))?$/i.exec(text) ?? [];
    if (name === undefined) command.error(`error: --port ${text}: it is NAME=PORT[/tcp|udp], or none alone`);
    return { name, port: Number(port), protocol: protocol.toLowerCase() === 'udp' ? 'UDP' : 'TCP' };
  });
}

/** `none` alone means no ports at all. */
function parsePublished(texts: readonly string[], command: Command): PublishOptions[] {
  if (texts.length === 1 && texts[0] === 'none') return [];
  return texts.map((text) => parsePublish(text, command));
}

/** Docker's notation; an IPv6 address is in brackets. The daemon checks the values. */
function parsePublish(text: string, command: Command): PublishOptions {
  const [, bracketed, plain, hostPort, port, protocol = 'tcp'] =
    /^(?:\[([^\]]*)\]:|([^:[\]]*):)?(\d+):(\d+)(?:\/(tcp|udp))?$/i.exec(text) ?? [];
  if (hostPort === undefined || port === undefined) {
    command.error(
      `error: --publish ${text}: it is [IP:]HOSTPORT:PORT[/tcp|udp], an IPv6 address in brackets, or none alone`,
    );
  }
  const hostIP = bracketed ?? plain;
  return {
    hostPort: Number(hostPort),
    port: Number(port),
    protocol: protocol.toLowerCase() === 'udp' ? 'UDP' : 'TCP',
    ...(hostIP !== undefined && { hostIP }),
  };
}

/** RATE for both directions, or DIRECTION=RATE for one or both; `none` means no limit. */
function parseRateLimit(text: string, command: Command): RateLimitChange | null {
  if (text === 'none') return null;
  if (!text.includes('=')) return { ingress: text, egress: text };
  const limits: { ingress?: string | null; egress?: string | null } = {};
  for (const part of text.split(',')) {
    const [, direction, rate] = /^(ingress|egress)=([^=]+)$/.exec(part) ?? [];
    if ((direction !== 'ingress' && direction !== 'egress') || rate === undefined) {
      command.error(`error: --rate-limit ${text}: it is RATE, ingress=RATE, egress=RATE, or both with a comma`);
    }
    if (limits[direction] !== undefined) command.error(`error: --rate-limit ${text}: ${direction} is given twice`);
    limits[direction] = rate === 'none' ? null : rate;
  }
  return limits;
}
