/** `weft get KIND --watch`: prints what there is, and then every change, until Ctrl-C or until the daemon stops. */
import type { Followed } from '../api/client.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import type { ResourceEvent } from '../model/resource.ts';
import { untilInterrupted } from './interrupt.ts';
import { GrowingTable } from './growing-table.ts';
import { printOne, write, type Cell } from './print.ts';
import { nameText, resourceHeads, resourceRow } from './resource-table.ts';
import type { OutputFormat } from './verb.ts';

interface Watched {
  readonly kind: KindDefinition;
  readonly output: OutputFormat | 'name' | 'wide';
  /** Says of each what happened. A table always does. */
  readonly withEvents: boolean;
  readonly follow: (signal: AbortSignal) => AsyncIterable<Followed<ResourceEvent>>;
}

export async function watchResources({ kind, output, withEvents, follow }: Watched): Promise<void> {
  const { signal } = untilInterrupted();
  const isWide = output === 'wide';
  const rows = new GrowingTable([...resourceHeads(kind, isWide), 'EVENT']);
  const rowOf = ({ type, object }: ResourceEvent): Cell[] => [...resourceRow(kind, object, isWide), type];
  /** Rows of a list are printed together, so that the columns fit. */
  let listed: Cell[][] | undefined = [];
  for await (const event of follow(signal)) {
    switch (event.kind) {
      case 'open':
        if (output === 'table' || isWide) await rows.print(listed ?? []);
        listed = undefined;
        break;
      case 'item':
        if (output !== 'table' && output !== 'wide') await printEvent(output, event.item, withEvents);
        else if (listed) listed.push(rowOf(event.item));
        else await rows.print([rowOf(event.item)]);
        break;
      case 'lost':
        process.stderr.write(
          `weft: ${event.count} changes left out: this reader is too slow and has lost its place; all are listed again\n`,
        );
        listed = [];
        break;
      default:
        event satisfies never;
    }
  }
  if (!signal.aborted) process.stderr.write('weft: the daemon has stopped\n');
}

function printEvent(output: 'json' | 'yaml' | 'name', event: ResourceEvent, withEvents: boolean): Promise<void> {
  if (output !== 'name') return printOne(output, withEvents ? event : event.object, () => '');
  const name = nameText(event.object);
  return write(`${withEvents ? `${event.type} ${name}` : name}\n`);
}
