/** Declared hooks: what is wrong is refused before it is stored; what another program stores in a wrong way opens nothing. */
import t from 'tap';
import type { HookGroup } from '../../src/table/hooks.ts';
import { findKind } from '../../src/model/kinds/registry.ts';
import { manifest, openControlPlane } from './control-plane.ts';

t.setTimeout(300_000);

const text = (name: string, body = ''): string =>
  `import { defineHook, deny } from 'weft';\nexport default defineHook({ name: '${name}', onFlow(flow) {\n${body}\n} });\n`;
const hook = (name: string, source = text(name), more: object = {}) => manifest('Hook', name, { source, ...more });
const kind = findKind('hooks')!;

t.test('a hook is loaded before it is stored, and in force when it is', async (t) => {
  const { cluster, forwarding, store } = await openControlPlane(t);
  const { hooks } = forwarding.tables;
  t.match(await cluster.apply([hook('fence')]), [{ kind: 'Hook', name: 'fence', action: 'created' }]);
  t.notOk(hooks.isEmpty);
  t.match(await cluster.apply([hook('fence')]), [{ action: 'unchanged' }]);
  t.match(cluster.get(kind, { name: 'fence' }), [{ spec: { onError: 'deny', source: text('fence') } }]);
  const { entries } = await store.list('');
  for (const [given, message] of [
    [hook('fence', text('fence', 'const x = ;')), /^hook "fence": fence\.ts:3:11: Unexpected ";"$/],
    [hook('fence', text('other')), /^hook "fence": fence\.ts: it calls itself "other": give it the name "fence"$/],
    [hook('fence', 'throw new Error("no");'), /^hook "fence": fence\.ts:1:\d+: Error: no$/],
  ] as const) {
    await t.rejects(cluster.apply([given]), { code: 'invalid', message });
    await t.rejects(cluster.apply([given], { dryRun: true }), { code: 'invalid', message });
  }
  t.same((await store.list('')).entries, entries, 'nothing is changed');
  t.match(await cluster.apply([hook('fence', text('fence', `return deny('no')`))]), [{ action: 'configured' }]);
  await cluster.delete(kind, { name: 'fence' });
  t.ok(hooks.isEmpty);
});

t.test('those of one change are in force at one moment', async (t) => {
  const { cluster, forwarding } = await openControlPlane(t);
  const closed = `if (flow.destination.port === 22) return deny('no')`;
  await cluster.apply([hook('a', text('a', closed))]);
  let isDone = false;
  let judged = 0;
  const load = (async () => {
    while (!isDone) {
      if (forwarding.tables.hooks.judge(question(22)).kind !== 'deny') t.fail('it passes');
      judged++;
      await new Promise(setImmediate);
    }
  })();
  // What one of them gives up, the other one denies; and back.
  await cluster.apply([hook('a'), hook('b', text('b', closed))]);
  await cluster.apply([hook('a', text('a', closed)), hook('b')]);
  isDone = true;
  await load;
  t.ok(judged > 10, `${judged}`);
});

t.test('there are 16 of them at most', async (t) => {
  const { cluster } = await openControlPlane(t);
  await cluster.apply(Array.from({ length: 16 }, (_, n) => hook(`h${n}`)));
  const message = 'hook "more": there are 16 hooks already, and can be no more';
  await t.rejects(cluster.apply([hook('more')]), { code: 'exhausted', message });
  t.match(await cluster.apply([hook('h3', text('h3', '// the same'))]), [{ action: 'configured' }]);
});

/** About a flow to that port. */
const question = (port: number) => ({
  read: (group: HookGroup) => (group === 'destination_port' ? String(port) : '[null,null,null]'),
  all: () => `[["tcp",4],"",0,[],[{},{}],"",${port},[],[{},{}],null,[]]`,
  balance: () => {},
  treat: () => {},
});

t.test('what another program stores', async (t) => {
  const { cluster, forwarding, write } = await openControlPlane(t);
  const { hooks } = forwarding.tables;
  const asked = question(0);
  const resource = (source: unknown) => ({ resource: { ...hook('odd'), spec: { source, onError: 'deny' } } });
  await write({ 'hooks/odd': resource('const x = ;') });
  t.match(hooks.judge(asked), { kind: 'failed', hook: 'odd', why: /^odd\.ts:1:11/ }, 'what cannot be loaded denies');
  await write({ 'hooks/odd': resource(7) });
  t.match(hooks.judge(asked), { kind: 'failed', hook: 'odd', why: 'its record cannot be read' });
  await write({ 'hooks/odd': resource(text('odd')) });
  t.match(hooks.judge(asked), { kind: 'allow' });
  await write({ 'hooks/odd': resource('const x = ;') });
  t.match(hooks.judge(asked), { kind: 'allow' }, 'the one before stays in force');
  t.match(await cluster.apply([hook('odd', text('odd', `return deny('mended')`))]), [{ action: 'configured' }]);
  t.match(hooks.judge(asked), { kind: 'deny', reason: 'mended' });
  await write({ 'hooks/odd': undefined });
  t.ok(hooks.isEmpty);
});
