/** TCP connections that go on, whatever happens to the daemon. */
import type { Namespace } from './lab.ts';
import { until } from './process.ts';
import { python } from './traffic.ts';

/** Where the first connection is received; each further one has the next. */
export const STEADY_PORT = 7024;
/** Bytes, one each 20 ms: the connection is under way, and goes on. */
const SOME = 20;

export interface Conversation {
  readonly from: Namespace;
  readonly to: Namespace;
  readonly ip: string;
  /** To which it is opened, where that leads to its port at the receiver. */
  readonly port?: number;
}

/** @throws unless the bytes of all connections go on after `event` */
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
