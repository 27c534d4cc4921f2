/** A TCP connection that goes on, whatever happens to the daemon. */
import type { Namespace } from './lab.ts';
import { until } from './process.ts';
import { python } from './traffic.ts';

const PORT = 7024;
/** Bytes, one each 20 ms: the connection is under way, and goes on. */
const SOME = 20;

/** @throws unless the bytes of one connection from one namespace to another go on after `event` */
export async function outlives(from: Namespace, to: Namespace, ip: string, event: () => Promise<void>): Promise<void> {
  const sink = to.start(python('steady_sink.py', PORT));
  await sink.says('ready');
  const source = from.start(python('steady_source.py', ip, PORT));
  const received = (): number => Number.parseInt(sink.lines.at(-1)?.text ?? '', 10) || 0;
  await until(() => received() >= SOME, { what: 'a connection under way' });
  await event();
  const before = received();
  await until(() => received() >= before + SOME, { what: 'the connection goes on' });
  if (!source.isRunning) throw new Error(`the connection broke: ${source.stderr}`);
  await source.stop();
  await sink.stop();
}
