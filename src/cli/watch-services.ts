/**
 * `weft services [NAME] --watch`: prints what there is, and then every change, until Ctrl-C or until the daemon stops. Of all
 * services, a row is a service; of one, a row is a backend.
 */
import type { Followed } from '../api/client.ts';
import { compareNames } from '../model/name-order.ts';
import { idOf } from '../model/name.ts';
import type { ServiceBackendReport, ServiceEvent, ServiceEventReport, ServiceReport } from '../model/service-report.ts';
import { GrowingTable } from './growing-table.ts';
import { untilInterrupted } from './interrupt.ts';
import { printOne, write, type Cell } from './print.ts';
import { backendHeads, backendRow, serviceHeads, serviceRow } from './service-table.ts';
import type { OutputFormat } from './verb.ts';

interface Watched {
  /** One that was named. */
  readonly isOne: boolean;
  readonly output: OutputFormat | 'name' | 'wide';
  /** Says of each what happened. A table always does. */
  readonly withEvents: boolean;
  readonly follow: (signal: AbortSignal) => AsyncIterable<Followed<ServiceEvent>>;
}

export async function watchServices({ isOne, output, withEvents, follow }: Watched): Promise<void> {
  const { signal } = untilInterrupted();
  const isWide = output === 'wide';
  const isTable = isWide || output === 'table';
  const rows = new GrowingTable([...(isOne ? backendHeads(isWide) : serviceHeads(isWide)), 'EVENT']);
  /** As they were told last. */
  const known = new Map<string, ServiceReport>();
  /** Rows of a list are printed together, so that the columns fit. */
  let listed: Cell[][] | undefined = [];
  for await (const event of follow(signal)) {
    if (event.kind === 'open') {
      // Backends are in the order of their service.
      if (!isOne) listed?.sort(([a], [b]) => compareNames(String(a), String(b)));
      if (isTable) await rows.print(listed ?? []);
      listed = undefined;
    } else if (event.kind === 'item') {
      const { type, object } = whole(event.item, known);
      const before = known.get(idOf(object));
      if (type === 'DELETED') known.delete(idOf(object));
      else known.set(idOf(object), object);
      if (!isTable) {
        await printEvent(output, { type, object }, withEvents);
        continue;
      }
      const changed = isOne ? backendRows({ type, object }, before, isWide) : [[...serviceRow(object, isWide), type]];
      if (!listed) await rows.print(changed);
      else for (const row of changed) listed.push(row);
    }
  }
  if (!signal.aborted) process.stderr.write('weft: the daemon has stopped\n');
}

/** What is deleted is shown as it was told last. */
function whole(event: ServiceEvent, known: ReadonlyMap<string, ServiceReport>): ServiceEventReport {
  if (event.type !== 'DELETED') return event;
  return { type: event.type, object: known.get(idOf(event.object))! };
}

/** The backends that have come, are shown differently, or have gone. */
function backendRows(
  { type, object }: ServiceEventReport,
  before: ServiceReport | undefined,
  isWide: boolean,
): Cell[][] {
  const row = (backend: ServiceBackendReport): Cell[] => backendRow(backend, isWide);
  const keyOf = ({ network, address }: ServiceBackendReport): string => `${network ?? ''} ${address}`;
  const earlier = new Map(before?.backends.map((backend) => [keyOf(backend), row(backend)]));
  const backends = type === 'DELETED' ? [] : object.backends;
  const rows = backends.flatMap((backend) => {
    const [now, then] = [row(backend), earlier.get(keyOf(backend))];
    earlier.delete(keyOf(backend));
    if (!then) return [[...now, 'ADDED']];
    return now.join() === then.join() ? [] : [[...now, 'MODIFIED']];
  });
  return [...rows, ...[...earlier.values()].map((then) => [...then, 'DELETED'])];
}

function printEvent(output: 'json' | 'yaml' | 'name', event: ServiceEventReport, withEvents: boolean): Promise<void> {
  if (output !== 'name') return printOne(output, withEvents ? event : event.object, () => '');
  const name = `service/${idOf(event.object)}`;
  return write(`${withEvents ? `${event.type} ${name}` : name}\n`);
}
