/** The file in which connections are stored. */
import { chmodSync, existsSync, linkSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { connectionMemory, populate } from '../../src/addon/connection-memory.ts';
import { CONNECTION_BYTES, connectionBytes, recordAt } from '../../src/flow/connection.ts';

function mapped(path: string, count: number, onSetAside: (path: string) => void = () => {}): Uint8Array {
  return connectionMemory({ path, count, onSetAside });
}

t.test('what is written outlives who wrote it, and room is added behind', async (t) => {
  const path = join(t.testdir(), 'connections');
  mapped(path, 2).set([1, 2, 3], recordAt(1));
  const again = mapped(path, 4, () => t.fail('it is of this layout'));
  t.equal(again.length, connectionBytes(4));
  t.same([...again.subarray(recordAt(1), recordAt(1) + 4)], [1, 2, 3, 0]);
  t.equal(statSync(path).mode & 0o777, 0o600);
});

t.test('fewer connections have a shorter file: what is cut off does not come back', async (t) => {
  const path = join(t.testdir(), 'connections');
  mapped(path, 100).fill(7, recordAt(99));
  mapped(path, 2);
  t.equal(statSync(path).size, connectionBytes(2));
  t.same([...mapped(path, 100).subarray(recordAt(99))], new Array(CONNECTION_BYTES).fill(0));
});

t.test('V8 does not count it as memory that collecting garbage could free', async (t) => {
  const path = join(t.testdir(), 'connections');
  const count = 400_000;
  const before = process.memoryUsage().external;
  const memory = mapped(path, count);
  t.equal(memory.length, connectionBytes(count));
  t.ok(process.memoryUsage().external - before < connectionBytes(count) / 10);
});

t.test('its room is taken when it is asked for, not when it is written to', async (t) => {
  const path = join(t.testdir(), 'connections');
  const count = 40_000;
  const memory = mapped(path, count);
  const blockBytes = () => statSync(path).blocks * 512;
  t.ok(blockBytes() < connectionBytes(count) / 2, 'a switch without connections takes little');
  t.ok(populate(memory, recordAt(0), count * CONNECTION_BYTES));
  t.ok(blockBytes() >= connectionBytes(count));
});

t.test('a file of another layout is set aside, and never read as this one', async (t) => {
  const dir = t.testdir();
  const old: Record<string, Uint8Array> = {
    // The layout before there was a header: records of 256 bytes, the first one in use, or free.
    first: new Uint8Array(1024).fill(2, 0, 40),
    second: new Uint8Array(1024).fill(2, 256, 300),
    short: Uint8Array.of(1, 2, 3),
  };
  for (const [name, bytes] of Object.entries(old)) {
    const path = join(dir, name);
    writeFileSync(path, bytes, { mode: 0o600 });
    const told: string[] = [];
    const memory = mapped(path, 8, (aside) => told.push(aside));
    t.same(told, [`${path}.old`], name);
    t.same(readFileSync(`${path}.old`), Buffer.from(bytes), 'as it was');
    t.ok(
      memory.subarray(recordAt(0)).every((byte) => byte === 0),
      'no connection is in the new one',
    );
    mapped(path, 8, () => t.fail('the new one is of this layout'));
  }
});

t.test('a file that somebody else can have a hand in is refused', async (t) => {
  const dir = t.testdir();
  const refused = (name: string, code: string) =>
    t.throws(() => mapped(join(dir, name), 1), {
      code: 'system',
      message: `connections cannot be kept in ${join(dir, name)} (${code})`,
    });
  writeFileSync(join(dir, 'shared'), 'as it was');
  chmodSync(join(dir, 'shared'), 0o660);
  refused('shared', 'EPERM');
  writeFileSync(join(dir, 'own'), 'as it was', { mode: 0o600 });
  linkSync(join(dir, 'own'), join(dir, 'linked'));
  refused('linked', 'EPERM');
  symlinkSync(join(dir, 'nowhere'), join(dir, 'symlink'));
  refused('symlink', 'ELOOP');
  t.equal(statSync(join(dir, 'shared')).size, 'as it was'.length, 'and left as it was');
  t.notOk(existsSync(join(dir, 'shared.old')));
  refused('no-directory/connections', 'ENOENT');
});
