/** Hooks in processes of their own: how they are loaded, asked, replaced, and what becomes of those that misbehave. */
import { readdirSync, readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { hookAnswerOf, loadAnswerOf } from '../../src/hooks/answers.ts';
import { HookKeeper, type WantedHook } from '../../src/hooks/keeper.ts';
import { Changes } from '../../src/table/changes.ts';
import { hookGroups, Hooks, type HookGroup, type HookJudgement } from '../../src/table/hooks.ts';
import { until } from '../support/process.ts';

t.setTimeout(600_000);

const values: Readonly<Record<HookGroup, unknown>> = {
  ...{ protocol: ['tcp', 4], source_address: '10.0.0.2', source_port: 4000, source_endpoint: ['web', 'shop', 'blue'] },
  ...{ source_labels: [{ app: 'web' }, { team: 'a' }], destination_address: '10.0.0.3', destination_port: 80 },
  ...{ destination_endpoint: [null, null, null], destination_labels: [{}, {}], service: null },
  ...{ backends: [], mark: 0 },
};

/** @param stepMs passes between two looks at the clock */
function kept(t: Test, stepMs = 0) {
  const changes = new Changes();
  const tables = new Hooks(changes);
  const state = { nowMs: 1_000_000, enforced: 0 };
  const warnings: string[] = [];
  const keeper = new HookKeeper({
    ...{ tables, host: 'here' },
    clock: () => {
      state.nowMs += stepMs;
      return state.nowMs;
    },
    enforce: () => void (state.enforced += changes.drain().changed.length > 0 ? 1 : 0),
    warn: (message, details) => warnings.push(`${message} ${JSON.stringify(details)}`),
  });
  t.teardown(() => keeper.close());
  /** @param body what the function does; undefined for a whole file in `source` */
  const set = (id: string, body: string, more: Partial<WantedHook> = {}): Promise<void> =>
    keeper.set([[id, { name: id, file: `${id}.ts`, onError: 'deny', source: fileOf(id, body), ...more }]]);
  const judge = (given: Partial<Record<HookGroup, unknown>> = {}): HookJudgement => {
    const text = (group: HookGroup): string => JSON.stringify({ ...values, ...given }[group]);
    return tables.judge({
      read: text,
      all: () => `[${hookGroups.map(text).join()}]`,
      balance: () => {},
      treat: () => {},
    });
  };
  return { keeper, tables, state, warnings, set, judge };
}

function fileOf(name: string, body: string): string {
  return `import { allow, defineHook, deny, isIn, reject, type HookFlow } from 'weft';

export default defineHook({
  name: '${name}',
  onFlow(flow: HookFlow, ctx) {
    const { source, destination } = flow;
    ${body}
  },
});
`;
}

t.test('a hook is loaded, asked, replaced and removed', async (t) => {
  const { keeper, tables, set, judge } = kept(t);
  await set(
    'a',
    `if (source.labels.app === 'web') return deny(\`\${source.namespace}/\${source.endpoint} on \${ctx.host}\`);`,
  );
  t.same(judge(), { kind: 'deny', hook: 'a', reason: 'shop/web on here' });
  t.equal(judge({ source_labels: [{}, {}] }).kind, 'allow');
  t.match(keeper.report(), [{ name: 'a', state: 'in_force', asked: 2, failures: 0, quarantines: 0 }]);
  await set('a', `if (isIn(destination.address, '10.0.0.0/24', 'fd00::/8')) return reject('near');`);
  t.same(judge(), { kind: 'reject', hook: 'a', reason: 'near' });
  t.equal(judge({ destination_address: '10.0.1.3' }).kind, 'allow');
  t.equal(judge({ destination_address: 'fd12::1' }).kind, 'reject');
  await keeper.remove('a');
  t.ok(tables.isEmpty);
});

t.test('hooks are asked in the order of their names', async (t) => {
  const { set, judge, keeper } = kept(t);
  await set('b', `return deny('b')`);
  await set('a', `return deny('a')`);
  t.match(judge(), { hook: 'a' });
  t.same(
    keeper.report().map(({ name, asked }) => [name, asked]),
    [
      ['a', 1],
      ['b', 0],
    ],
  );
});

t.test('a first load that fails denies, and a later one keeps what was there', async (t) => {
  const { keeper, set, judge, warnings } = kept(t);
  await set('a', 'const x = ;');
  t.match(judge(), { kind: 'failed', hook: 'a', why: /^a\.ts:7:15: Unexpected ";"/ });
  t.match(keeper.report(), [{ state: 'failed', why: /^a\.ts:7:15/ }]);
  await set('a', `return deny('it works')`);
  t.match(judge(), { kind: 'deny', reason: 'it works' });
  t.equal(keeper.failure('a'), undefined);
  for (const [source, why] of [
    ['let x: = 1', /^a\.ts:1:8: /],
    ['export const x = 1;', /default export is to be defineHook/],
    [fileOf('other', ''), /calls itself "other": give it the name "a"/],
    [
      `import { readFileSync } from 'node:fs';\n${fileOf('a', 'readFileSync')}`,
      /imports from "weft" alone, not from "node:fs"/,
    ],
    [`${fileOf('a', '')}\nthrow new Error('at the end');`, /^a\.ts:11:7: Error: at the end/],
    [`export default { name: 'a', onFlow: 1 };`, /defineHook/],
    [fileOf('a', 'await 1'), /^a\.ts:7:5: "await" can only be used inside an "async" function/],
  ] as const) {
    await set('a', '', { source });
    t.match(keeper.failure('a'), why);
    t.match(judge(), { kind: 'deny', reason: 'it works' }, 'the one before stays in force');
    t.match(keeper.report(), [{ state: 'in_force', why }]);
  }
  t.equal(warnings.length, 8);
});

t.test('a hook that throws has failed about that flow, with its place; it is logged once', async (t) => {
  const { keeper, set, judge, warnings } = kept(t);
  await set('a', `const labels: any = source.labels;\n    if (destination.port === 22) return labels.team.name;`);
  t.equal(judge().kind, 'allow');
  for (const port of [22, 22]) {
    t.match(judge({ destination_port: port }), { kind: 'failed', why: /^a\.ts:8:\d+: TypeError: .*'name'/ });
  }
  t.match(judge({ destination_port: 22, source_labels: [{ app: 'db' }, {}] }), { kind: 'failed' });
  t.match(keeper.report(), [{ state: 'in_force', failures: 2, quarantines: 0 }]);
  t.equal(warnings.length, 1);
  await set('a', `return 'yes' as never;`);
  t.match(judge(), {
    why: /onFlow returns allow\(\), deny\(reason\), reject\(reason\), balance\(backends\) or nothing/,
  });
});

t.test('a hook that changes how text is made of values fails, and nothing else does', async (t) => {
  const { keeper, set, judge, state } = kept(t);
  const poisoned = (how: string): string => `(Array.prototype as any).toJSON = () => ${how};`;
  for (const how of ['5', 'undefined', '["loaded", 5]', '["failed", "why", "1", {}]', '{ throw null; }']) {
    await set('a', '', { source: `${poisoned(how)}\n${fileOf('a', '')}` });
    t.match(keeper.failure('a'), /what it says of its name is no answer/, how);
    t.match(judge(), { kind: 'failed', hook: 'a' });
  }
  for (const how of [
    ...[
      '5',
      'undefined',
      '["accept", "", "", 0, 0]',
      '["allow", "", "!", 0, 0]',
      '["allow", "", "0".repeat(99), 0, 0]',
    ],
    ...['["balance", "[-1]", "", 0, 0]', '["balance", "[]", "", 0, 0]', '["failed", 5, ""]', '{ throw null; }'],
    '["deny", "x".repeat(1 << 20), "", 0, 0]',
  ]) {
    await set('a', poisoned(how));
    t.match(judge(), { kind: 'failed', hook: 'a', why: /what it says is no answer, and is not asked/ }, how);
    state.nowMs += 600_000;
    await keeper.tick();
  }
  await set('a', poisoned('["deny", "red\\u001b[31m", "", 0, 0]'));
  t.match(judge(), { kind: 'deny', reason: 'red [31m' }, 'nor does a terminal obey it');
});

t.test('a hook that does not return is ended, and asked again after a while', async (t) => {
  const { keeper, set, judge, state, warnings } = kept(t);
  await set('a', `if (destination.port === 22) for (;;);\n    if (destination.port === 23) return deny('23');`);
  await set('b', `if (destination.port === 24) return deny('b')`);
  t.equal(judge().kind, 'allow');
  t.match(judge({ destination_port: 22 }), {
    kind: 'failed',
    hook: 'a',
    why: /no answer after 50 ms, and is not asked for 1 s/,
  });
  t.match(judge({ destination_port: 23 }), { kind: 'failed', hook: 'a' }, 'nor about anything else');
  t.equal(judge().kind, 'allow', 'what it has said before holds');
  t.match(keeper.report(), [{ state: 'quarantine', quarantines: 1 }, { state: 'in_force' }]);
  const { enforced } = state;
  await keeper.tick();
  t.match(keeper.report(), [{ state: 'quarantine' }, {}], 'it is not over');
  state.nowMs += 1000;
  await keeper.tick();
  t.match(keeper.report(), [{ state: 'in_force' }, {}]);
  t.equal(state.enforced, enforced + 1, 'decided again is what it was not asked about');
  t.match(judge({ destination_port: 23 }), { kind: 'deny', reason: '23' });
  t.match(judge({ destination_port: 22 }), { why: /not asked for 2 s/ }, 'the pause doubles');
  t.equal(warnings.length, 2);
  await set('a', `return deny('mended')`);
  t.match(judge(), { reason: 'mended' }, 'another version is in force at once');
});

t.test('a hook that needs too much of a processor is in quarantine', async (t) => {
  const { keeper, set, judge } = kept(t);
  await set('a', 'for (let n = 0; n < 5_000_000; n++);\n    if (source.port < 0) return;');
  for (let port = 0; keeper.report()[0]!.state === 'in_force' && port < 2000; port++) {
    judge({ source_port: port });
    await keeper.tick();
  }
  t.match(keeper.report(), [{ state: 'quarantine', why: /it needs too much of a processor/, quarantines: 1 }]);
});

t.test('a hook that waits for a processor is not to blame', async (t) => {
  const { keeper, set, judge } = kept(t, 20);
  await set('a', 'if (source.port < 0) return;');
  for (let port = 0; port < 100; port++) t.equal(judge({ source_port: port }).kind, 'allow');
  t.match(keeper.report(), [{ state: 'in_force', asked: 100 }]);
});

t.test('with onError: allow, the others have the say meanwhile', async (t) => {
  const { set, judge } = kept(t);
  await set('a', 'for (;;);', { onError: 'allow' });
  await set('b', `return deny('b')`);
  await set('c', 'const x = ;', { onError: 'allow' });
  t.match(judge(), { kind: 'deny', hook: 'b' });
});

t.test('what its process says is bounded, whatever that is, since it is remembered', (t) => {
  const long = 'x'.repeat(100_000);
  const said = (...answer: unknown[]) => hookAnswerOf(JSON.stringify(answer));
  for (const verdict of ['deny', 'reject', 'failed'])
    t.ok(JSON.stringify(said(verdict, long, '')).length < 600, verdict);
  t.ok(JSON.stringify(loadAnswerOf(JSON.stringify(['loaded', long]))).length < 600);
  const rate = (by: string) => said('allow', '', '', [0, -1, 1, 0, by]).kind;
  t.same([rate('x'.repeat(200)), rate(long)], ['verdict', 'unavailable']);
  const balanced = (count: number) => said('balance', JSON.stringify(Array(count).fill(1)), '').kind;
  t.same([balanced(64), balanced(65)], ['verdict', 'unavailable']);
  t.end();
});

t.test('what a hook sets is checked, and told', async (t) => {
  const { set, judge } = kept(t);
  const sets: readonly (readonly [string, RegExp | object])[] = [
    ['undefined', { kind: 'allow', treatment: undefined }],
    ['{}', { kind: 'allow', treatment: undefined }],
    ['{ mark: 7 }', { kind: 'allow', treatment: { mark: 7 } }],
    ['{ dscp: 0 }', { kind: 'allow', treatment: { mark: 0, dscp: 0 } }],
    [
      `{ rate: { by: 'a', bitsPerSecond: 10_000_000, packetsPerSecond: 5 } }`,
      { treatment: { mark: 0, meter: { kbits: 10_000, packets: 5 } } },
    ],
    ['5', /what a connection gets is \{ mark, dscp, rate \}/],
    ['{ tos: 5 }', /what a connection gets is \{ mark, dscp, rate \}, and has no tos/],
    ['{ mark: 0 }', /mark is a whole number from 1 to 65535/],
    ['{ mark: 65536 }', /mark is a whole number from 1 to 65535/],
    [`{ mark: '7' }`, /mark is a whole number from 1 to 65535/],
    ['{ dscp: 64 }', /dscp is a whole number from 0 to 63/],
    ['{ dscp: 1.5 }', /dscp is a whole number from 0 to 63/],
    ['{ rate: 5 }', /rate is \{ by, bitsPerSecond, packetsPerSecond \}/],
    [
      '{ rate: { bitsPerSecond: 1e6 } }',
      /rate\.by is a text of 1 to 200 characters: all who have the same share the rate/,
    ],
    [`{ rate: { by: 'a' } }`, /rate has bitsPerSecond, packetsPerSecond, or both/],
    [`{ rate: { by: 'a', bitsPerSecond: 999 } }`, /bitsPerSecond is a whole number from 1000 to 1000000000000/],
    [`{ rate: { by: 'a', packetsPerSecond: 0 } }`, /packetsPerSecond is a whole number from 1 to 1000000000/],
  ];
  const all = sets.map(([text]) => text).join(', ');
  await set('a', `const all: readonly any[] = [${all}];\n    return allow(all[destination.port]);`);
  for (const [port, [text, expected]] of sets.entries()) {
    const judgement = judge({ destination_port: port });
    if (expected instanceof RegExp) t.match(judgement, { kind: 'failed', hook: 'a', why: expected }, text);
    else t.match(judgement, expected, text);
  }
  await set('b', `if (flow.mark === 7) return deny('marked')`);
  t.match(judge({ destination_port: 0 }), { kind: 'allow' });
  for (const how of ['[0, 64, 0, 0, ""]', '[65536, -1, 0, 0, ""]', '[0, -1, 1e99, 0, ""]', '[0, -1, 0, 1, 5]', '7']) {
    const ask = async (attempt: number): Promise<HookJudgement> => {
      await set('c', `(Array.prototype as any).toJSON = () => ["allow", "", "", ${how}]; // ${attempt}`);
      const judgement = judge({ destination_port: 0 });
      // A busy machine may leave it too little time.
      const isLate = judgement.kind === 'failed' && judgement.why.startsWith('it had no answer');
      return isLate ? ask(attempt + 1) : judgement;
    };
    t.match(await ask(0), { kind: 'failed', hook: 'c', why: /what it says is no answer/ }, how);
  }
});

/** What ends the whole process, or heeds nobody who wants to end its thread. */
const HOSTILE: Readonly<Record<string, string>> = {
  'small objects, again and again': `const all: string[][] = []; for (;;) all.push(new Array(1000).fill('x'));`,
  'one array that grows': 'const all: number[] = []; for (;;) all.push(all.length);',
  'large arrays': 'const all: unknown[] = []; for (;;) all.push(new Array(2 ** 24).fill(0));',
  'one large array': 'new Array(2 ** 25).fill(0);',
  'one large text': `'x'.repeat(2 ** 28).replace(/y$/, '');`,
  'a loop of the engine': 'Array.prototype.includes.call({ length: 2 ** 53 - 1 }, 1);',
};

for (const [what, body] of Object.entries(HOSTILE)) {
  t.test(`a hook that takes what there is, ${what}, ends itself and nothing else`, async (t) => {
    const { keeper, set, judge } = kept(t);
    await set('a', `if (destination.port === 22) { ${body} }`);
    t.equal(judge().kind, 'allow');
    t.match(judge({ destination_port: 22 }), { kind: 'failed', hook: 'a' });
    t.match(keeper.report(), [{ state: 'quarantine' }]);
    await set('b', '', { source: `${body}\n${fileOf('b', '')}` });
    t.match(keeper.failure('b'), /^b\.ts: it is not loaded after 5 s, or needs more memory than it may have$/);
    await until(() => Promise.resolve(hookProcesses().length === 0), { what: 'no process is left' });
  });
}

t.test('a process that is killed ends nothing but its hook, which is loaded again', async (t) => {
  const { keeper, set, judge, state } = kept(t);
  await set('a', `if (destination.port === 22) return deny('no')`);
  const [pid] = hookProcesses();
  process.kill(pid!, 'SIGKILL');
  await until(() => Promise.resolve(hookProcesses().length === 0), { what: 'it is gone' });
  t.match(judge({ destination_port: 22 }), { kind: 'failed', why: /its process has ended/ });
  state.nowMs += 1000;
  await keeper.tick();
  t.match(judge({ destination_port: 22 }), { kind: 'deny', reason: 'no' });
});

t.test('of a keeper that is closed nobody waits for an answer', async (t) => {
  const { keeper, set, judge } = kept(t);
  await set('a', `return deny('no')`);
  await keeper.close();
  t.match(judge(), { kind: 'failed', why: 'it is not loaded' });
  await until(() => Promise.resolve(hookProcesses().length === 0), { what: 'no process is left' });
});

/** Those that this process has started. */
function hookProcesses(): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const isHook = readFileSync(`/proc/${name}/cmdline`, 'utf8').includes('dist/hooks/program.js');
      const [, parent] = /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${name}/status`, 'utf8')) ?? [];
      return isHook && Number(parent) === process.pid ? [Number(name)] : [];
    } catch {
      return []; // it has ended
    }
  });
}

const NOT_THERE =
  'process Buffer console fetch setTimeout queueMicrotask performance Date Intl WebAssembly SharedArrayBuffer Atomics ArrayBuffer Uint8Array Promise WeakRef FinalizationRegistry structuredClone';

t.test('a hook has the language, and nothing else', async (t) => {
  const { set, judge } = kept(t);
  const expressions: readonly (readonly [string, RegExp])[] = [
    ...NOT_THERE.split(' ').map((name) => [`typeof ${name}`, /^undefined$/] as const),
    ['typeof Math.random', /^undefined$/],
    [`Function('return 1')()`, /EvalError|Code generation/],
    [`(0, eval)('1')`, /not a function|not defined|Code generation/],
    [`flow.constructor.constructor('return process')()`, /Code generation/],
    [`deny.constructor('return process')()`, /Code generation/],
    [`(async () => {}).constructor('return process')()`, /Code generation/],
    [`source.labels.constructor.constructor('return process')()`, /Code generation/],
    [`ctx.random.constructor('return process')()`, /Code generation/],
    [`(globalThis as any).constructor.constructor('return process')()`, /Code generation|not a function/],
    [`Object.getOwnPropertyNames(globalThis).includes('process')`, /^false$/],
    [`typeof (arguments as any).callee`, /TypeError/],
    [
      `(() => { (Error as any).prepareStackTrace = (_: any, all: any) => all[0].getThis(); return new Error('x').stack; })()`,
      /TypeError/,
    ],
    [
      `(() => { (Function.prototype as any).prepareStackTrace = () => 'asked'; const { stack } = new Error('x'); delete (Function.prototype as any).prepareStackTrace; return stack; })()`,
      /^Error: x/,
    ],
    [`(() => { (globalThis as any).Error = class {}; return 1; })()`, /TypeError/],
    [`((import('node:fs') as any).then)`, /TypeError|ReferenceError|Promise/],
    // A stack that overflows is of the context, too.
    [
      `(() => { let c: any; const deep = (): void => { try { deep(); } catch (e) { c ??= (e as any).constructor.constructor; } }; deep(); return c('return process')(); })()`,
      /Code generation|RangeError/,
    ],
  ];
  const all = expressions.map(([expression]) => `function (this: any) { return ${expression}; }`).join(',\n');
  await set('a', `const all = [${all}];\n return deny(String(all[destination.port]!.call(undefined)));`);
  for (const [at, [expression, expected]] of expressions.entries()) {
    const judgement = judge({ destination_port: at });
    const told = judgement.kind === 'deny' ? judgement.reason : judgement.kind === 'failed' ? judgement.why : 'allowed';
    t.match(told, expected, expression);
  }
});

t.test('a hook that breaks out of its context makes no code of text there, either', async (t) => {
  const { set, judge } = kept(t);
  // Node makes text of stacks by functions of its own. Where the stack is all but used up, they throw errors of their own.
  const search = `
    let maker: any;
    const note = (error: any): void => { if (!(error instanceof Error)) maker ??= error.constructor.constructor; };
    const deep = (): void => {
      try { deep(); } catch (error) { note(error); }
      if (!maker) try { void new Error('x').stack; } catch (error) { note(error); }
    };
    deep();
    let found = 'nothing';
    if (maker) try { found = typeof maker('return process')(); } catch (error) { found = String(error); }
  `;
  await set('a', '', { source: `${search}\n${fileOf('a', 'return deny(found);')}` });
  t.match(judge(), { kind: 'deny', reason: /^nothing$|Code generation from strings disallowed/ });
  t.comment(judge());
});

t.test('random() is the same for one connection, and spread over all', async (t) => {
  const { set, judge } = kept(t);
  await set('a', `if (ctx.random() < 0.1) return deny('one in ten');`);
  const denied = (sourcePort: number): boolean => judge({ source_port: sourcePort }).kind === 'deny';
  const first = Array.from({ length: 2000 }, (_, n) => denied(n + 1024));
  t.same(
    first,
    Array.from({ length: 2000 }, (_, n) => denied(n + 1024)),
  );
  const share = first.filter(Boolean).length / first.length;
  t.ok(share > 0.07 && share < 0.13, `${share}`);
});

t.test('reload under load: nothing is let pass that both versions deny', async (t) => {
  const { set, judge, keeper } = kept(t);
  await set('a', `if (destination.port === 22) return deny('one')`);
  let isDone = false;
  let judged = 0;
  const load = (async () => {
    while (!isDone) {
      if (judge({ destination_port: 22, source_address: `10.0.0.${judged++ % 200}` }).kind !== 'deny')
        t.fail('it passes');
      await new Promise(setImmediate);
    }
  })();
  for (const version of ['two', 'three', 'four'])
    await set('a', `if (destination.port === 22) return deny('${version}')`);
  isDone = true;
  await load;
  t.ok(judged > 10, `${judged}`);
  t.match(judge({ destination_port: 22 }), { reason: 'four' });
  t.match(keeper.report(), [{ quarantines: 0 }]);
});
