/** What two datapaths that were given the same have in common: their counters, cached flows and connections. */
import type { DatapathCounters } from '../../src/datapath/datapath.ts';
import { formatActions } from '../../src/flow/action.ts';
import {
  CONNECTION_BYTES,
  CONNECTION_HALF,
  CONNECTION_HALF_FLOW,
  CONNECTION_REPLY_HALF,
  recordAt,
  type ConnectionRecords,
} from '../../src/flow/connection.ts';
import { checkConservation, type Switch } from '../conformance/harness.ts';

/** Counters with their law, and flows as a set. */
export function compareState(left: Switch, right: Switch): string | undefined {
  for (const dp of [left, right]) checkConservation(dp.counters());
  return (
    compareText('counters', countersText(left.counters()), countersText(right.counters())) ??
    compareText('flows', flowsText(left), flowsText(right)) ??
    compareText('connections', connectionsText(left.connections.records), connectionsText(right.connections.records))
  );
}

function compareText(what: string, left: readonly string[], right: readonly string[]): string | undefined {
  const [leftLines, rightLines] = [new Set(left), new Set(right)];
  const onlyLeft = left.filter((line) => !rightLines.has(line));
  const onlyRight = right.filter((line) => !leftLines.has(line));
  if (onlyLeft.length + onlyRight.length === 0) return undefined;
  return `${what} differ:\n  left:  ${onlyLeft.join('; ')}\n  right: ${onlyRight.join('; ')}`;
}

function countersText(counters: DatapathCounters): string[] {
  const { ports, drops, ...totals } = counters;
  const list = (values: object) =>
    Object.entries(values)
      .map(([name, value]) => `${name}=${value}`)
      .sort();
  const lines = [...list(totals), ...list(drops).map((line) => `drops.${line}`)];
  for (const [port, { drops: portDrops, ...rest }] of ports) {
    lines.push(...[...list(rest), ...list(portDrops)].map((line) => `port${port}.${line}`));
  }
  return lines;
}

/** Leaves out what free slots contain and where the native datapath last found a flow, which concern nobody else. */
function connectionsText(records: ConnectionRecords): string[] {
  return Array.from({ length: records.count }, (_, slot) => {
    if (records.generation(slot) === 0) return `${slot} is free`;
    const record = records.memory.slice(recordAt(slot), recordAt(slot) + CONNECTION_BYTES);
    for (const half of [CONNECTION_HALF, CONNECTION_REPLY_HALF]) record.fill(0, ...flowSlotIn(half));
    return `${slot} ${Buffer.from(record).toString('hex')}`;
  });
}

function flowSlotIn(half: number): [from: number, to: number] {
  const at = half + CONNECTION_HALF_FLOW + 4;
  return [at, at + 4];
}

function flowsText(dp: Switch): string[] {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  return Array.from(
    dp.flowDump(),
    ({ id, key, mask, actions, packets, bytes, lastUsedMs }) =>
      `${id} ${hex(key)}/${hex(mask)} ${formatActions(actions)} packets=${packets} bytes=${bytes} used=${lastUsedMs}`,
  ).sort();
}
