/** `weft connections`: all connections that are tracked or translated, with who is at both ends. */
import type { Command } from 'commander';
import type { ConnectionsOptions } from '../api/target.ts';
import type { ConnectionReport } from '../model/report.ts';
import { durationText, numberText, print, table } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

/** As `trace` calls it. Endpoints have a slash in their names here. */
const OWN = 'weft';

interface Options extends ConnectionsOptions {
  readonly all?: boolean;
}

export function connections(program: Command): void {
  verb(program, 'connections', {
    summary: 'list the connections of containers: with each other, with services, and with the outside',
    examples: [
      'weft connections',
      'weft connections --endpoint web --service shop/cart',
      'weft connections --network blue -o json',
      'weft connections --all        # also those of weft itself: DNS, health checks',
    ],
  })
    .option('--endpoint <name>', 'only those that this endpoint has opened, or that go to it (NAME, NAMESPACE/NAME)')
    .option('--service <name>', 'only those that were opened through this service (NAME, NAMESPACE/NAME)')
    .option('--network <name>', 'only those of endpoints in this network')
    .option('-a, --all', 'also those of weft itself, which JSON and YAML always have')
    .action(async ({ all = false, ...of }: Options, command: Command) => {
      const report = await clientOf(command).connections(of);
      await print(globals(command).output, report, () => connectionTable(report, all));
    });
}

/** Those of weft itself can be very many, since each question for a name and each health check is one. */
async function connectionTable(report: readonly ConnectionReport[], isWhole: boolean): Promise<string> {
  const shown = isWhole ? report : report.filter((connection) => !isOwn(connection));
  const hidden = report.length - shown.length;
  const rows = await table(
    ['ID', 'PROTOCOL', 'STATE', 'FROM', 'TO', 'SERVICE', 'TRANSLATED', 'PACKETS', 'BYTES', 'IDLE', 'EXPIRES IN'],
    shown.map((connection) => [
      connection.id,
      connection.protocol,
      connection.state,
      ...endTexts(connection),
      serviceText(connection),
      translatedText(connection),
      `${numberText(connection.packets)}/${numberText(connection.replyPackets)}`,
      `${numberText(connection.bytes)}/${numberText(connection.replyBytes)}`,
      durationText(connection.idleMs),
      durationText(connection.expiresInMs),
    ]),
    'No connections.',
  );
  return hidden === 0 ? rows : `${rows}\n${numberText(hidden)} of weft itself (DNS, health checks): --all shows them\n`;
}

function isOwn({ direction }: ConnectionReport): boolean {
  return direction === 'gateway';
}

/** Who opened it, and to whom. The addresses behind which weft has its own sockets mean nothing to anybody. */
function endTexts(connection: ConnectionReport): [from: string, to: string] {
  const { from, to, source, destination, translatedSource, translatedDestination } = connection;
  if (isOwn(connection)) {
    return to === null
      ? [named(from, source), named(OWN, destination)]
      : [named(OWN, translatedSource), named(to, translatedDestination)];
  }
  return [named(from, source), isTranslatedTo(connection) ? destination : named(to, destination)];
}

/** A connection in some lines: who is at both ends, what is between them, and what has passed. */
export function endsText(connection: ConnectionReport): string {
  const { id, protocol, state, source, to, via, destination, translatedSource, translatedDestination } = connection;
  const service = serviceText(connection);
  const [opener, target] = endTexts(connection);
  const as = translatedSource === source || isOwn(connection) ? [] : [`as ${translatedSource}`];
  const by = via === undefined ? [] : [`by host ${via}`];
  return [
    `Connection ${id}: ${protocol}, ${state}${isOnlyTracked(connection) ? ', only tracked: nothing is translated' : ''}`,
    `From: ${[opener, ...as, ...by].join(', ')}`,
    ...(service === '' ? [] : [`Service: ${service}, ${destination}`]),
    `To: ${isOwn(connection) ? target : named(to, service === '' ? destination : translatedDestination)}`,
    ...treatedText(connection),
    `Passed: ${countText(connection.packets, connection.bytes)}, back ${countText(connection.replyPackets, connection.replyBytes)}`,
    '',
  ].join('\n');
}

/** What hooks have set for it. */
function treatedText({ mark, dscp, rate }: ConnectionReport): string[] {
  const { bitsPerSecond, packetsPerSecond } = rate ?? {};
  const parts = [
    ...(mark === undefined ? [] : [`mark ${mark}`]),
    ...(dscp === undefined ? [] : [`DSCP ${dscp}`]),
    ...(bitsPerSecond === undefined ? [] : [`at most ${numberText(bitsPerSecond)} bits a second`]),
    ...(packetsPerSecond === undefined ? [] : [`at most ${numberText(packetsPerSecond)} packets a second`]),
  ];
  return parts.length === 0 ? [] : [`Set by hooks: ${parts.join(', ')}`];
}

function isOnlyTracked(connection: ConnectionReport): boolean {
  const { direction, source, translatedSource, destination, translatedDestination } = connection;
  return direction === 'internal' && source === translatedSource && destination === translatedDestination;
}

function countText(packets: number, bytes: number): string {
  return `${numberText(packets)} packets of ${numberText(bytes)} bytes`;
}

/** `default/web 10.0.0.2:80` */
function named(name: string | null, end: string): string {
  return name === null ? end : `${name} ${end}`;
}

/** `default/web:http` */
function serviceText({ service }: ConnectionReport): string {
  return service === null ? '' : `${service.name}:${service.port}`;
}

function isTranslatedTo({ destination, translatedDestination }: ConnectionReport): boolean {
  return destination !== translatedDestination;
}

/** The end of the connection that has another address on the other side, with who is there; or where that is known. */
function translatedText(connection: ConnectionReport): string {
  const { direction, to, via, source, translatedSource, translatedDestination } = connection;
  if (direction === 'internal' || direction === 'gateway') return '';
  if (via !== undefined) return `by host ${via}`;
  return [
    ...(source === translatedSource || direction === 'published' ? [] : [`from ${translatedSource}`]),
    ...(isTranslatedTo(connection) ? [`to ${named(to, translatedDestination)}`] : []),
  ].join(' ');
}
