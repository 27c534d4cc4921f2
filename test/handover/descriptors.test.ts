/** Descriptors of this process: open ones and spare ones, and who keeps duplicates. */
import { fstatSync, openSync } from 'node:fs';
import t from 'tap';
import { socketDescriptors, tapDescriptors, tapOfDescriptors } from '../../src/flow/descriptors.ts';
import { parseIp } from '../../src/flow/types.ts';
import { closeAll, Descriptors, type Keeper } from '../../src/handover/descriptors.ts';
import { openDescriptors } from '../support/descriptors.ts';

const open = (): number => openSync('/dev/null', 'r');

class FakeKeeper implements Keeper {
  readonly kept: Map<string, readonly number[]>;
  ended: { readonly purge: boolean } | undefined;

  constructor(kept: readonly (readonly [string, readonly number[]])[] = []) {
    this.kept = new Map(kept);
  }

  put(name: string, descriptors: readonly number[]): void {
    this.kept.set(name, descriptors);
  }

  drop(name: string): void {
    this.kept.delete(name);
  }

  names(): readonly string[] {
    return [...this.kept.keys()];
  }

  end(how: { readonly purge: boolean }): void {
    this.ended = how;
  }
}

t.test('names say what they lead to', (t) => {
  const tap = { dev: 4n, ino: 4026532247n, ifindex: 7 };
  t.equal(tapDescriptors(tap), 'tap-4-4026532247-7');
  t.same(tapOfDescriptors('tap-4-4026532247-7'), tap);
  for (const name of ['state', 'tap-4-7', 'tap-4-4026532247-7-1', 'xtap-1-2-3'])
    t.equal(tapOfDescriptors(name), undefined);
  t.equal(socketDescriptors(parseIp('192.0.2.1'), 4789), 'vxlan-192.0.2.1-4789');
  // systemd does not take colons.
  t.equal(socketDescriptors(parseIp('2001:db8::1'), 4789), 'vxlan-2001.db8..1-4789');
  t.end();
});

t.test('a port takes the place of the spare ones of its name', (t) => {
  const before = openDescriptors();
  const descriptors = new Descriptors([
    { name: 'tap-1-2-3', descriptors: [open(), open()] },
    { name: 'tap-1-2-4', descriptors: [open()] },
    { name: 'state', descriptors: [open()] },
  ]);
  t.same(
    descriptors.spareTaps().map(({ ifindex, descriptors: { length } }) => [ifindex, length]),
    [
      [3, 2],
      [4, 1],
    ],
  );
  t.equal(descriptors.left({ dev: 1n, ino: 2n }), 'held');
  t.equal(descriptors.left({ dev: 1n, ino: 3n }), undefined);
  const own = [open(), open()];
  descriptors.opened('tap-1-2-3', own);
  t.equal(openDescriptors(), before + 4, 'the spare ones are closed');
  t.same(descriptors.spare('tap-1-2-3'), []);
  const taken = descriptors.take('state')!;
  t.equal(descriptors.take('state'), undefined);
  descriptors.closeSpare();
  t.same(descriptors.spareTaps(), []);
  closeAll([...own, taken]);
  t.equal(openDescriptors(), before);
  t.end();
});

t.test('retained, what is open becomes spare, and can be closed', (t) => {
  const before = openDescriptors();
  const keeper = new FakeKeeper();
  const descriptors = new Descriptors();
  const [tap, api] = [open(), open()];
  descriptors.opened('tap-1-2-3', [tap]);
  descriptors.opened('api', [api]);
  descriptors.keepWith(keeper);
  descriptors.retain();
  descriptors.closing('tap-1-2-3');
  closeAll([tap, api]);
  t.same([...keeper.kept.keys()], ['tap-1-2-3'], 'nothing is given up');
  t.same(
    descriptors.allSpare().map(({ name }) => name),
    ['tap-1-2-3', 'api'],
  );
  t.ok(descriptors.spareTaps().every(({ descriptors: [one] }) => fstatSync(one!).isCharacterDevice()));
  t.equal(descriptors.left({ dev: 1n, ino: 2n }), 'continued');
  descriptors.closeSpare();
  t.equal(openDescriptors(), before);

  const NONE = 1_000_000;
  descriptors.opened('tap-1-2-3', [0]);
  descriptors.opened('tap-1-2-4', [NONE]);
  t.throws(() => descriptors.retain(), { code: 'system' }, 'all of them or none');
  t.equal(openDescriptors(), before);
  t.end();
});

t.test('a keeper has what ports have, and nothing else', (t) => {
  const keeper = new FakeKeeper([
    ['tap-1-2-3', [9]],
    ['tap-9-9-9', [9]],
  ]);
  const descriptors = new Descriptors();
  descriptors.opened('tap-1-2-3', [0]);
  descriptors.opened('state', [1]);
  descriptors.keepWith(keeper);
  t.same([...keeper.kept], [['tap-1-2-3', [0]]], 'the lock is not among them');
  descriptors.opened('vxlan-192.0.2.1-4789', [2]);
  descriptors.closing('tap-1-2-3');
  descriptors.closing('state');
  t.same([...keeper.kept], [['vxlan-192.0.2.1-4789', [2]]]);
  descriptors.endKeeping({ purge: true });
  descriptors.closing('vxlan-192.0.2.1-4789');
  t.same(keeper.ended, { purge: true });
  t.equal(keeper.kept.size, 1, 'it is not told any more');
  t.end();
});
