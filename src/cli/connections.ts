/** `weft connections`: the translated connections. */
import type { Command } from 'commander';
import type { ConnectionReport } from '../model/report.ts';
import { durationText, numberText, print, table } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function connections(program: Command): void {
  verb(program, 'connections', {
    summary: 'list the connections of containers with the outside, and with weft itself',
    examples: ['weft connections', 'weft connections --endpoint web', 'weft connections -o json'],
  })
    .option('--endpoint <name>', 'only those of this endpoint')
    .action(async (options: { endpoint?: string }, command: Command) => {
      const report = await clientOf(command).connections(options);
      await print(globals(command).output, report, () =>
        table(
          ['ID', 'PROTOCOL', 'STATE', 'ENDPOINT', 'FROM', 'TO', 'TRANSLATED', 'PACKETS', 'BYTES', 'IDLE', 'EXPIRES IN'],
          report.map((connection) => [
            connection.id,
            connection.protocol,
            connection.state,
            connection.endpoint ?? `(${connection.network ?? 'gone'})`,
            connection.source,
            connection.destination,
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

/** The end of the connection that has another address on the other side. */
function translatedText({ direction, translatedSource, translatedDestination }: ConnectionReport): string {
  if (direction === 'internal') return '';
  if (direction === 'gateway') return 'to weft itself';
  return direction === 'outbound' ? `from ${translatedSource}` : `to ${translatedDestination}`;
}
