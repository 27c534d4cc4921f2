/** TCP connections that must survive whatever happens to the daemon. */
import type { Namespace } from './lab.ts';
import { until } from './process.ts';
import { python } from './traffic.ts';

/** The port of the first connection; each further one has the next port. */
export const STEADY_PORT = 7024;
/** Bytes, one every 20 ms, after which the connection is known to work. */
const SOME = 20;

export interface Conversation {
  readonly from: Namespace;
  readonly to: Namespace;
  readonly ip: string;
  /** The port to connect to, if it leads to the receiver's port. */
  readonly port?: number;
}

/** @throws unless all connections still carry bytes after `event` */
export async function outlive(conversations: readonly Conversation[], event: () => Promise<void>): Promise<void> {
  const open = await Promise.all(
    conversations.map(async ({ from, to, ip, port }, n) => {
      const sink = to.start(python('steady_sink.py', STEADY_PORT + n));
      await sink.says('ready');
      const source = from.start(python('steady_source.py', ip, port ?? STEADY_PORT + n));
      const received = (): number => Number.parseInt(sink.lines.at(-1)?.text ?? '', 10) || 0;
      await until(() => received() >= SOME, { what: `a connection to ${ip} under way` });
      return { ip, sink, source, received };
    }),
  );
  await event();
  for (const { ip, sink, source, received } of open) {
    const before = received();
    await until(() => received() >= before + SOME, { what: `the connection to ${ip} goes on` });
    if (!source.isRunning) throw new Error(`the connection to ${ip} broke: ${source.stderr}`);
    await source.stop();
    await sink.stop();
  }
}
