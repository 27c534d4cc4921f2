/** What `tcpdump -vv`, which knows nothing about weft, makes of the frames on the underlay. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROBE_VNI } from '../../src/wire/probe.ts';
import type { Lab, Namespace } from './lab.ts';
import { udp } from './frames.ts';
import { run, until } from './process.ts';
import { sendFrames } from './traffic.ts';

/** Buffer for what tcpdump has not read yet, since it may have to wait for a processor. */
const BUFFER_KILOBYTES = 65_536;
/** More than any frame on an underlay; the buffer is divided into pieces of this size. */
const SNAP_BYTES = 9216;
/** Nobody has this MAC address, so whoever gets the frame drops it. */
const NOBODY = '02:00:00:00:00:ff';
const END_PORT = 9;
const END = 'the end of the capture';

/** One VXLAN datagram as tcpdump decodes it. */
export interface DecodedDatagram {
  readonly outer: string;
  readonly inner: string;
  readonly from: string;
  readonly sourcePort: number;
}

/** Records the first `count` VXLAN datagrams on a link while `action` runs, and decodes them. */
export function captureVxlan(
  lab: Lab,
  at: Namespace,
  ifname: string,
  count: number,
  action: () => Promise<void>,
): Promise<DecodedDatagram[]> {
  return capture(lab, at, ifname, ['-c', String(count)], action);
}

/** Records all VXLAN datagrams on a link while `action` runs, and decodes them. @throws if tcpdump could not keep up */
export function captureAllVxlan(
  lab: Lab,
  at: Namespace,
  ifname: string,
  action: () => Promise<void>,
): Promise<DecodedDatagram[]> {
  return capture(lab, at, ifname, [], action);
}

async function capture(
  lab: Lab,
  at: Namespace,
  ifname: string,
  options: readonly string[],
  action: () => Promise<void>,
): Promise<DecodedDatagram[]> {
  const file = join(lab.directory, `underlay-${at.name}.pcap`);
  const tcpdump = at.start([
    ...['tcpdump', '--immediate-mode', '-Z', 'root', '-U', '-n', '-i', ifname, ...options, '-w', file],
    ...['-B', String(BUFFER_KILOBYTES), '-s', String(SNAP_BYTES), `udp dst port 4789 or udp dst port ${END_PORT}`],
  ]);
  await tcpdump.says('listening on');
  await action();
  // This frame comes after everything that the action has sent on the link.
  const ends = { srcMac: NOBODY, dstMac: NOBODY, src: '192.0.2.254', dst: '192.0.2.254' };
  await sendFrames(at, [udp(ends, END_PORT, END_PORT, Buffer.from(END))], ifname);
  await until(() => !tcpdump.isRunning || readFileSync(file).includes(END), { what: END });
  await tcpdump.stop('SIGINT');
  if (!/^0 packets dropped by kernel$/m.test(tcpdump.stderr)) throw new Error(`tcpdump: ${tcpdump.stderr}`);
  return decode(await run(['tcpdump', '-vv', '-n', '-r', file]));
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

/**
 * Does tcpdump find a wrong checksum or length in it? What it guesses about the payload from the port does not matter.
 */
export function isDamaged({ outer, inner }: DecodedDatagram): boolean {
  const headers = inner.replace(/(\[udp sum ok\]|, length \d+:).*$/s, '$1');
  return /\b(bad|incorrect|wrong|truncated|missing|invalid)\b/i.test(`${outer}${headers}`);
}

/** Without the probes of hosts that have a key, such as hosts of a store. */
export function withoutProbes(datagrams: readonly DecodedDatagram[]): DecodedDatagram[] {
  return datagrams.filter(({ outer }) => !outer.includes(`vni ${PROBE_VNI}`));
}
