/** The new daemon's side of a takeover, where the running one ends at a moment that no real one can be made to hit. */
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { connectPackets, type PacketConnection } from '../../src/addon/passing.ts';
import { Descriptors } from '../../src/handover/descriptors.ts';
import { textOf } from '../../src/handover/request.ts';
import { Successor } from '../../src/handover/successor.ts';
import { until } from '../support/process.ts';

t.setTimeout(60_000);

/** Takes over from a daemon that is played by `play`, which has the connection to this one. */
async function taken(t: Test, play: (connection: PacketConnection) => void) {
  const directory = mkdtempSync(join(tmpdir(), 'weft-takeover-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const descriptors = new Descriptors();
  t.teardown(() => descriptors.closeSpare());
  const take = Successor.take({
    ...{ socket: join(directory, 'weft.sock'), state: directory, host: 'a', version: '1.0.1', descriptors },
    ask: async ({ at }) => {
      play(connectPackets(at)!);
      return { pid: process.pid, version: '1.0.0' };
    },
    after: (delayMs, work) => {
      const timeout = setTimeout(work, delayMs);
      return () => clearTimeout(timeout);
    },
  });
  return { take, descriptors };
}

function pass(connection: PacketConnection): void {
  const file = openSync('/dev/null', 'r');
  connection.send(textOf({ say: 'descriptors', name: 'tap-1' }), [file]);
  closeSync(file);
}

t.test('one that is killed at once', async (t) => {
  const { take } = await taken(t, (connection) => connection.close());
  t.equal(await take, 'killed');
});

t.test('one that is killed before it has passed everything on: nothing of that is used', async (t) => {
  const { take, descriptors } = await taken(t, (connection) => {
    pass(connection);
    connection.close();
  });
  t.equal(await take, 'killed');
  t.same(descriptors.allSpare(), []);
});

t.test('one that is killed afterwards', async (t) => {
  const { take, descriptors } = await taken(t, (connection) => {
    pass(connection);
    connection.send(textOf({ say: 'all' }));
    connection.close();
  });
  const successor = (await take) as Successor;
  t.type(successor, Successor);
  t.equal(descriptors.allSpare().length, 1);
  await until(() => successor.isAlone, { what: 'it knows that nobody else goes on' });
});

t.test('one that says that it does not hand over', async (t) => {
  const { take } = await taken(t, (connection) => {
    connection.send(textOf({ say: 'withdrawn', why: 'this daemon stops' }));
    connection.close();
  });
  await t.rejects(take, {
    code: 'unreachable',
    message: 'the running daemon did not hand over: this daemon stops; see its log',
  });
});
