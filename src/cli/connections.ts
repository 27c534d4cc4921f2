/** `weft connections`: all connections that are tracked or translated, with who is at both ends. */
import type { Command } from 'commander';
import type { ConnectionReport } from '../model/report.ts';
import { durationText, numberText, print, table } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function connections(program: Command): void {
  verb(program, 'connections', {
    summary:
      'list the connections of containers: with each other, with services, with the outside, and with weft itself',
    examples: ['weft connections', 'weft connections --endpoint web', 'weft connections -o json'],
  })
    .option('--endpoint <name>', 'only those that this endpoint has opened, or that go to it')
    .action(async (options: { endpoint?: string }, command: Command) => {
      const report = await clientOf(command).connections(options);
      await print(globals(command).output, report, () =>
        table(
          ['ID', 'PROTOCOL', 'STATE', 'FROM', 'TO', 'SERVICE', 'TRANSLATED', 'PACKETS', 'BYTES', 'IDLE', 'EXPIRES IN'],
          report.map((connection) => [
            connection.id,
            connection.protocol,
            connection.state,
            named(connection.from, connection.source),
            isTranslatedTo(connection) ? connection.destination : named(connection.to, connection.destination),
            serviceText(connection),
            translatedText(connection),
            `${numberText(connection.packets)}/${numberText(connection.replyPackets)}`,
            `${numberText(connection.bytes)}/${numberText(connection.replyBytes)}`,
            durationText(connection.idleMs),
            durationText(connection.expiresInMs),
          ]),
          'No connections.',
        ),
      );
    });
}

/** A connection in some lines: who is at both ends, what is between them, and what has passed. */
export function endsText(connection: ConnectionReport): string {
  const { id, protocol, state, from, source, to, via, destination, translatedSource, translatedDestination } =
    connection;
  const service = serviceText(connection);
  const as = translatedSource === source ? [] : [`as ${translatedSource}`];
  const by = via === undefined ? [] : [`by host ${via}`];
  return [
    `Connection ${id}: ${protocol}, ${state}`,
    `From: ${[named(from, source), ...as, ...by].join(', ')}`,
    ...(service === '' ? [] : [`Service: ${service}, ${destination}`]),
    `To: ${named(to, service === '' ? destination : translatedDestination)}`,
    `Passed: ${countText(connection.packets, connection.bytes)}, back ${countText(connection.replyPackets, connection.replyBytes)}`,
    '',
  ].join('\n');
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
  if (direction === 'internal') return '';
  if (direction === 'gateway') return 'to weft itself';
  if (via !== undefined) return `by host ${via}`;
  return [
    ...(source === translatedSource || direction === 'published' ? [] : [`from ${translatedSource}`]),
    ...(isTranslatedTo(connection) ? [`to ${named(to, translatedDestination)}`] : []),
  ].join(' ');
}
