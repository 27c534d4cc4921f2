/** Prints events until Ctrl-C. How many were left out is reported on stderr. */
import type { Followed } from '../api/client.ts';
import { untilInterrupted } from './interrupt.ts';
import { printOne } from './print.ts';
import type { OutputFormat } from './verb.ts';

export async function follow<T>(
  format: OutputFormat,
  start: (signal: AbortSignal) => AsyncIterable<Followed<T>>,
  line: (item: T) => string,
): Promise<void> {
  for await (const event of start(untilInterrupted().signal)) {
    switch (event.kind) {
      case 'open':
        break;
      case 'item':
        await printOne(format, event.item, () => `${line(event.item)}\n`);
        break;
      case 'lost':
        process.stderr.write(`weft: ${event.count} left out: this reader is too slow\n`);
        break;
      default:
        event satisfies never;
    }
  }
}
