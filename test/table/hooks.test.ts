/** What hooks have said is remembered by what they have read, and by nothing else. */
import t from 'tap';
import { Changes } from '../../src/table/changes.ts';
import type { Treatment } from '../../src/flow/treatment.ts';
import { anyHooksObject, hookGroups, Hooks, hooksObject, type HookGroup } from '../../src/table/hooks.ts';
import { hookOf } from '../support/hooks.ts';
import { Random } from '../support/random.ts';

type Values = Partial<Record<HookGroup, unknown>>;
const nobody = [null, null, null];
const usual: Record<HookGroup, unknown> = {
  ...{ protocol: ['tcp', 4], source_address: '10.0.0.2', source_port: 4000, source_endpoint: ['web', 'shop', 'blue'] },
  ...{ source_labels: [{ app: 'web' }, {}], destination_address: '10.0.0.3', destination_port: 80 },
  ...{ destination_endpoint: nobody, destination_labels: [{}, {}], service: null },
  ...{ backends: [], mark: 0 },
};

/** A flow, and what was read of it. */
function flow(values: Values = {}) {
  const read: HookGroup[] = [];
  const balanced: (readonly number[])[] = [];
  const text = (group: HookGroup): string => JSON.stringify({ ...usual, ...values }[group]);
  return {
    read,
    balanced,
    question: {
      read(group: HookGroup): string {
        if (!read.includes(group)) read.push(group);
        return text(group);
      },
      all: () => `[${hookGroups.map(text).join()}]`,
      balance: (weights: readonly number[]) => void balanced.push(weights),
      treat: (treatment: Treatment) => void Object.assign(values, { mark: treatment.mark }),
    },
  };
}

const inForce = (...hooks: Parameters<Hooks['set']>[0]): Hooks => {
  const table = new Hooks(new Changes());
  table.set(hooks);
  return table;
};

t.test('a hook is asked once about all that is alike in what it reads', (t) => {
  const hook = hookOf(
    'a',
    `if (flow.protocol === 'udp') return deny('udp'); if (destination.port === 22) return reject('shell')`,
  );
  const hooks = inForce(hook);
  const judge = (values: Values) => {
    const { read, question } = flow(values);
    return [hooks.judge(question).kind, read.join(' '), hook.asked];
  };
  t.same(judge({}), ['allow', 'protocol destination_port', 1]);
  t.same(judge({ source_address: '10.0.0.9', source_port: 1 }), ['allow', 'protocol destination_port', 1]);
  t.same(judge({ protocol: ['udp', 4] }), ['deny', 'protocol', 2]);
  t.same(judge({ protocol: ['udp', 4], destination_port: 22 }), ['deny', 'protocol', 2]);
  t.same(judge({ destination_port: 22 }), ['reject', 'protocol destination_port', 3]);
  t.same(judge({ protocol: ['tcp', 6] }), ['allow', 'protocol destination_port', 4], 'whole groups');
  t.end();
});

t.test('the first that denies has the say, in the order that is given', (t) => {
  const [a, b] = [hookOf('a', `if (destination.port === 1) return deny('a')`), hookOf('b', `return deny('b')`)];
  const hooks = inForce(a, b);
  const first = flow({ destination_port: 1 });
  t.same(hooks.judge(first.question), { kind: 'deny', hook: 'a', reason: 'a' });
  t.same(first.read, ['destination_port']);
  t.equal(b.asked, 0, 'the others are not asked');
  t.same(hooks.judge(flow().question), { kind: 'deny', hook: 'b', reason: 'b' });
  t.same(inForce(hookOf('a', ''), hookOf('c', 'return allow()')).judge(flow().question), {
    ...{ kind: 'allow', by: ['a', 'c'], failed: [], balancedBy: undefined },
  });
  t.end();
});

t.test('what it says can be printed', (t) => {
  const hooks = inForce(hookOf('a', "return deny('one\\u001b[2Jtwo\\u202ethree\\u2028four\\nfive')"));
  t.match(hooks.judge(flow().question), { reason: 'one [2Jtwo three four five' });
  t.end();
});

t.test('one that throws denies, or lets the others say', (t) => {
  const broken = `source.labels.team.length`;
  const why = /TypeError: Cannot read properties of undefined/;
  t.match(inForce(hookOf('a', broken), hookOf('b', '')).judge(flow().question), { kind: 'failed', hook: 'a', why });
  const lenient = inForce(hookOf('a', broken, 'allow'), hookOf('b', `if (destination.port === 1) return deny('b')`));
  t.match(lenient.judge(flow().question), { kind: 'allow', failed: [{ hook: 'a', why }] });
  t.match(lenient.judge(flow({ destination_port: 1 }).question), { kind: 'deny', hook: 'b' });
  t.end();
});

t.test('the first that balances has the say, and others may still deny', (t) => {
  const two = [
    ['10.0.0.3', 80, nobody, [{ version: 'v1' }, {}], 1],
    ['10.0.0.4', 81, nobody, [{ version: 'v2' }, {}], 1],
  ];
  const canary = hookOf('a', `return balance(flow.backends.filter(({ labels }) => labels.version === 'v2'))`);
  const other = hookOf('b', `if (destination.port === 22) return deny('b'); return balance(flow.backends)`);
  const hooks = inForce(canary, other);
  const first = flow({ service: 'web', backends: two });
  t.match(hooks.judge(first.question), { kind: 'allow', balancedBy: 'a' });
  t.same(first.balanced, [[0, 1]]);
  t.match(hooks.judge(flow({ destination_port: 22, backends: two }).question), { kind: 'deny', hook: 'b' });
  t.match(hooks.judge(flow({ backends: two.slice(0, 1) }).question), {
    kind: 'failed',
    why: /no backend with a weight/,
  });
  const weights = hookOf('a', `return balance(flow.backends.map((one) => ({ ...one, weight: one.port - 78 })))`);
  const weighed = flow({ backends: two });
  inForce(weights).judge(weighed.question);
  t.same(weighed.balanced, [[2, 3]]);
  for (const [body, why] of [
    [`return balance([{ address: '10.0.0.9', port: 80, weight: 1 }])`, /takes those of flow.backends/],
    [`return balance(flow.backends.map((one) => ({ ...one, weight: NaN })))`, /a weight is 0 to/],
    [`return balance('x')`, /TypeError|flow.backends/],
  ] as const) {
    t.match(inForce(hookOf('a', body)).judge(flow({ backends: two }).question), { kind: 'failed', why });
  }
  t.end();
});

t.test('what is not available is not remembered', (t) => {
  let isThere = false;
  const hook = { ...hookOf('a', `return deny('no')`) };
  const hooks = inForce({
    ...hook,
    ask: (question) => (isThere ? hook.ask(question) : { kind: 'unavailable', why: 'not yet' }),
  });
  const { read, question } = flow();
  t.same(hooks.judge(question), { kind: 'failed', hook: 'a', why: 'not yet' });
  t.same(read, []);
  isThere = true;
  t.same(hooks.judge(flow().question), { kind: 'deny', hook: 'a', reason: 'no' });
  isThere = false;
  t.same(hooks.judge(flow().question), { kind: 'deny', hook: 'a', reason: 'no' }, 'what it has said holds');
  t.end();
});

t.test('decisions depend on hooks, and what is known of a hook that stays is kept', (t) => {
  const changes = new Changes();
  const hooks = new Hooks(changes);
  const [a, b] = [hookOf('a', ''), hookOf('b', '')];
  hooks.set([a]);
  t.same(changes.drain().changed, [hooksObject, anyHooksObject]);
  hooks.judge(flow().question);
  hooks.set([a, b]);
  t.same(changes.drain().changed, [hooksObject]);
  hooks.set([a, b]);
  t.same(changes.drain().changed, [], 'nothing is another than it was');
  hooks.judge(flow().question);
  t.equal(a.asked, 1);
  hooks.available();
  t.same(changes.drain().changed, [hooksObject]);
  hooks.set([]);
  t.same(changes.drain().changed, [hooksObject, anyHooksObject]);
  t.end();
});

t.test('of long values, less is remembered', (t) => {
  const hook = hookOf('a', `if (flow.backends.length > 1) return deny('many')`);
  const hooks = inForce(hook);
  const long = (n: number): Values => ({ backends: [['10.0.0.3', n, nobody, [{ text: 'x'.repeat(100_000) }, {}], 1]] });
  for (let n = 0; n < 100; n++) hooks.judge(flow(long(n)).question);
  t.equal(hook.asked, 100);
  hooks.judge(flow(long(99)).question);
  t.equal(hook.asked, 100);
  hooks.judge(flow(long(0)).question);
  t.equal(hook.asked, 101, 'what is beyond 4 Mi characters is forgotten');
  t.end();
});

t.test('one that keeps something is asked again', (t) => {
  const hook = hookOf(
    'a',
    `globalThis.n = (globalThis.n ?? 0) + 1; return n % 2 ? (source.port, undefined) : (destination.port, deny('even'))`,
  );
  const hooks = inForce(hook);
  for (let n = 0; n < 20; n++) hooks.judge(flow({ source_port: n }).question);
  t.ok(hook.asked > 10);
  t.end();
});

t.test('random flows: what is remembered is what the hook says, and all that it reads is read', (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 100_000);
  t.comment(`SEED=${seed}`);
  const random = new Random(seed);
  const body = `
    const mixed = source.port % 3 + destination.port % 3;
    if (mixed === 0) return;
    if (mixed === 1 && flow.protocol === 'udp') return deny(source.address);
    if (mixed > 2) return source.labels.app === 'web' ? reject(destination.address) : allow();
    if (flow.service) return deny(flow.service + destination.labels.app);`;
  const [remembering, fresh] = [inForce(hookOf('a', body)), hookOf('a', body)];
  for (let n = 0; n < 20_000; n++) {
    const values: Values = {
      ...{
        protocol: [random.chance(0.5) ? 'tcp' : 'udp', 4],
        source_port: random.int(9),
        destination_port: random.int(9),
      },
      ...{ source_address: `10.0.0.${random.int(3)}`, destination_address: `10.0.0.${random.int(3)}` },
      ...{
        source_labels: [{ app: random.chance(0.5) ? 'web' : 'db' }, {}],
        service: random.chance(0.5) ? null : 'shop/web',
      },
    };
    const [one, other] = [flow(values), flow(values)];
    const judged = remembering.judge(one.question);
    const said = fresh.ask(other.question.all());
    if (said.kind !== 'verdict') throw new Error('it has failed');
    const isSame =
      judged.kind === said.verdict && (!('reason' in judged) || ('reason' in said && judged.reason === said.reason));
    if (!isSame || one.read.join() !== said.read.join()) t.fail('it differs', { values, judged, said, read: one.read });
  }
  t.end();
});
