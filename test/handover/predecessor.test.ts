/** The running daemon's side of a takeover, where the new one ends at a moment that no real one can be made to hit. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { acceptPackets, listenPackets, type PacketConnection } from '../../src/addon/passing.ts';
import { closeAll, Descriptors } from '../../src/handover/descriptors.ts';
import { Predecessor } from '../../src/handover/predecessor.ts';
import { TAKEOVER_FORMAT, textOf } from '../../src/handover/request.ts';
import { until } from '../support/process.ts';

t.setTimeout(60_000);

interface Ends {
  readonly predecessor: Predecessor;
  /** The new daemon's. */
  readonly connection: PacketConnection;
  /** Resolves when the new daemon has taken over. */
  readonly done: Promise<void>;
  /** What is due later, the latest last. */
  readonly timers: (() => void)[];
  /** What was warned of. */
  readonly warnings: string[];
  /** Resolves when this one goes on. */
  readonly resumed: Promise<void>;
}

/** A daemon that another one is about to take over from. */
async function offered(t: Test, { goesOn = false } = {}): Promise<Ends> {
  const directory = mkdtempSync(join(tmpdir(), 'weft-takeover-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const at = join(directory, 't');
  const listener = listenPackets(at);
  const place = { host: 'a', state: directory, connections: '00' };
  let onDone = (): void => {};
  const done = new Promise<void>((resolve) => (onDone = resolve));
  const timers: (() => void)[] = [];
  const warnings: string[] = [];
  let resume = (): void => {};
  const resumed = new Promise<void>((resolve) => (resume = resolve));
  const predecessor = new Predecessor({
    place,
    version: '1.0.0',
    descriptors: new Descriptors(),
    after: (_, work) => {
      timers.push(work);
      return () => {};
    },
    letGo: async () => {},
    resume: async () => {
      if (!goesOn) t.fail('it does not go on');
      resume();
    },
    onDone: () => onDone(),
    log: () => {},
    warn: (message, { why }: { readonly why?: string }) => void warnings.push(`${message}: ${why}`),
  });
  predecessor.offer({ format: TAKEOVER_FORMAT, version: '1.0.1', at, place });
  const connection = acceptPackets(listener);
  closeAll([listener]);
  t.teardown(() => {
    connection.close();
    predecessor.close();
  });
  return { predecessor, connection, done, timers, warnings, resumed };
}

/** A daemon that another one has taken over from. */
async function replaced(t: Test): Promise<Ends> {
  const ends = await offered(t);
  ends.connection.send(textOf({ say: 'go' }));
  ends.connection.send(textOf({ say: 'forwarding' }));
  await ends.done;
  return ends;
}

t.test('a new daemon that has ended needs not be told to stop', async (t) => {
  const { predecessor, connection } = await replaced(t);
  connection.close();
  t.equal(await predecessor.stop({ purge: false }), true);
});

t.test('nor can it purge anything', async (t) => {
  const { predecessor, connection } = await replaced(t);
  connection.close();
  await t.rejects(predecessor.stop({ purge: true }), {
    code: 'state',
    message: `the daemon that has taken over (pid ${process.pid}) has ended, and nothing is purged: start weft again, and then \`weft down --purge\``,
  });
});

t.test('one that runs is told', async (t) => {
  const { predecessor, connection } = await replaced(t);
  t.equal(await predecessor.stop({ purge: true }), true);
  const said: string[] = [];
  for (let message; (message = connection.receive(0)); ) said.push(Buffer.from(message.bytes).toString());
  t.same(said.at(-1), textOf({ say: 'stop', purge: true }));
});

t.test('one that is not ready in time is told, although it has just said that it is', async (t) => {
  const { predecessor, connection } = await offered(t);
  connection.send(textOf({ say: 'go' }));
  t.equal(await predecessor.stop({ purge: false }), false);
  const message = connection.receive(1000);
  t.same(message && Buffer.from(message.bytes).toString(), textOf({ say: 'withdrawn', why: 'this daemon stops' }));
});

t.test('one that does not forward in time ends by itself, and is not killed', async (t) => {
  const { connection, timers, warnings, resumed } = await offered(t, { goesOn: true });
  connection.send(textOf({ say: 'go' }));
  await until(() => timers.length === 2, { what: 'it has everything' });
  // To kill it would end this process, which plays the new daemon, too.
  timers[1]!();
  t.same(warnings, []);
  connection.close();
  await resumed;
  t.same(warnings, ['the new daemon has failed: this one goes on: it does not forward after 8 s']);
});
