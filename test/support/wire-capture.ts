/** What `tcpdump -vv`, which knows nothing of weft, makes of the frames on the underlay. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab, Namespace } from './lab.ts';
import { monotonicMs, run, until } from './process.ts';

const SETTLED_MS = 200;
const BUFFER_KIB = '65536';

/** One VXLAN datagram as tcpdump decodes it. */
export interface DecodedDatagram {
  readonly outer: string;
  readonly inner: string;
  readonly from: string;
  readonly sourcePort: number;
}

/** Records the first `count` VXLAN datagrams on a link while `action` runs, and decodes them. */
export async function captureVxlan(
  lab: Lab,
  at: Namespace,
  ifname: string,
  count: number,
  action: () => Promise<void>,
): Promise<DecodedDatagram[]> {
  const file = join(lab.directory, `underlay-${at.name}.pcap`);
  const capture = at.start([
    ...['tcpdump', '--immediate-mode', '-Z', 'root', '-U', '-n', '-i', ifname, '-c', String(count), '-w', file],
    ...['udp', 'dst', 'port', '4789'],
  ]);
  await capture.says('listening on');
  await action();
  await settled(() => statSync(file).size);
  await capture.stop('SIGINT');
  return decode(await run(['tcpdump', '-vv', '-n', '-r', file]));
}

/** Records all VXLAN datagrams on a link while `action` runs, and decodes them. @throws when tcpdump could not keep up */
export async function captureAllVxlan(
  lab: Lab,
  at: Namespace,
  ifname: string,
  action: () => Promise<void>,
): Promise<DecodedDatagram[]> {
  const file = join(lab.directory, `underlay-${at.name}.pcap`);
  const capture = at.start([
    ...['tcpdump', '-Z', 'root', '-U', '-n', '-B', BUFFER_KIB, '-i', ifname, '-w', file],
    ...['udp', 'dst', 'port', '4789'],
  ]);
  await capture.says('listening on');
  await action();
  await settled(() => statSync(file).size);
  await capture.stop('SIGINT');
  if (!/^0 packets dropped by kernel$/m.test(capture.stderr)) throw new Error(`tcpdump: ${capture.stderr}`);
  return decode(await run(['tcpdump', '-vv', '-n', '-r', file], { timeoutMs: 60_000 }));
}

/** Waits until tcpdump has written what it had still to read. */
async function settled(size: () => number): Promise<void> {
  let last = { size: -1, atMs: 0 };
  const isSettled = (): boolean => {
    if (size() !== last.size) last = { size: size(), atMs: monotonicMs() };
    return monotonicMs() - last.atMs > SETTLED_MS;
  };
  await until(isSettled, { timeoutMs: 5000, what: 'the end of the capture' });
}

/** Splits tcpdump's text into datagrams: each begins with a time of day. */
function decode(text: string): DecodedDatagram[] {
  const datagrams = text.split(/^(?=\d\d:\d\d:\d\d\.\d+ )/m).filter((part) => part.includes('.4789:'));
  return datagrams.map((part) => {
    const lines = part.split('\n');
    const end = lines.findIndex((line) => line.includes('.4789:')) + 1;
    const outer = lines.slice(0, end).join('\n');
    const [, from = '', sourcePort = ''] = /(\S+)\.(\d+) > \S+\.4789:/.exec(outer) ?? [];
    return { outer, inner: lines.slice(end).join('\n'), from, sourcePort: Number(sourcePort) };
  });
}

/** Does tcpdump find a wrong checksum or length in it? */
export function isDamaged({ outer, inner }: DecodedDatagram): boolean {
  return /\b(bad|incorrect|wrong|truncated|missing|invalid)\b/i.test(`${outer}${inner}`);
}
