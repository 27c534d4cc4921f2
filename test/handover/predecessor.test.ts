/** The running daemon's side of a takeover, where the new one ends at a moment that no real one can be made to hit. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { acceptPackets, listenPackets, type PacketConnection } from '../../src/addon/passing.ts';
import { closeAll, Descriptors } from '../../src/handover/descriptors.ts';
import { Predecessor } from '../../src/handover/predecessor.ts';
import { TAKEOVER_FORMAT, textOf } from '../../src/handover/request.ts';

t.setTimeout(60_000);

/** A daemon that another one has taken over from. @returns the other one's end, too */
async function replaced(t: Test): Promise<{ predecessor: Predecessor; connection: PacketConnection }> {
  const directory = mkdtempSync(join(tmpdir(), 'weft-takeover-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const at = join(directory, 't');
  const listener = listenPackets(at);
  const place = { host: 'a', state: directory, connections: '00' };
  let onDone = (): void => {};
  const done = new Promise<void>((resolve) => (onDone = resolve));
  const predecessor = new Predecessor({
    place,
    version: '1.0.0',
    descriptors: new Descriptors(),
    after: () => () => {},
    letGo: async () => {},
    resume: async () => void t.fail('it does not go on'),
    onDone: () => onDone(),
    log: () => {},
  });
  predecessor.offer({ format: TAKEOVER_FORMAT, version: '1.0.1', at, place });
  const connection = acceptPackets(listener);
  closeAll([listener]);
  t.teardown(() => {
    connection.close();
    predecessor.close();
  });
  connection.send(textOf({ say: 'go' }));
  connection.send(textOf({ say: 'forwarding' }));
  await done;
  return { predecessor, connection };
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
