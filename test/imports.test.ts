/** The rules of the house: who may import whom, and who may touch clocks, randomness and the addon. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

/**
 * Part of src (a folder or a file) → the parts and packages that it may import:
 * `node` are Node's own modules, `*` is anything. All may import `error`, and themselves.
 */
const mayImport: Readonly<Record<string, string>> = {
  error: '',
  package: 'node',
  memory: 'node',
  wire: '',
  flow: 'wire ipaddr.js',
  table: 'wire flow',
  model: 'wire zod yaml ipaddr.js',
  pipeline: 'table flow wire model',
  datapath: 'flow wire package node',
  control: 'pipeline table datapath flow',
  forwarding: 'control pipeline datapath table flow wire',
  simulation: 'forwarding cluster model datapath flow',
  store: 'model node',
  cluster: 'model store table flow forwarding link node',
  link: 'flow wire node',
  outside: 'cluster forwarding datapath link model table flow',
  health: 'node raw-socket',
  observe: 'pipeline table flow wire control datapath model forwarding cluster link health node',
  config: 'model memory node wire zod yaml',
  switch: '*',
  api: 'model node hono @hono/node-server zod',
  cli: 'api model package node pino commander cli-table3 picocolors yaml',
  index: '*',
};

/** Files that may import more, and why. */
const exceptions: Readonly<Record<string, string>> = {
  // The server stands before the switch; the client knows only the model.
  'api/target.ts': 'switch',
  // Frames are printed and written by the client.
  'cli/capture.ts': 'wire observe',
  // The verb that is the daemon, and its code.
  'cli/up.ts': 'link',
  'cli/daemon.ts': 'config memory datapath switch',
};

const src = fileURLToPath(new URL('../src', import.meta.url));
const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .sort()
  .map((path) => ({ path, code: withoutComments(readFileSync(join(src, path), 'utf8')) }));

t.test('a part imports only what it may', (t) => {
  const parts = new Set(files.map(({ path }) => partOf(path)));
  t.same(
    [...parts].filter((part) => !(part in mayImport)),
    [],
    'every part has a line in the table',
  );
  const refused = files.flatMap(({ path, code }) => {
    const part = partOf(path);
    const allowed = `error ${part} ${mayImport[part] ?? ''} ${exceptions[path] ?? ''}`.split(' ');
    return importsOf(path, code)
      .filter((target) => !allowed.includes(target) && !allowed.includes('*'))
      .map((target) => `${path} imports ${target}`);
  });
  t.same(refused, []);
  t.end();
});

t.test('pipeline and datapath do not reach each other through others either', (t) => {
  for (const [from, to] of [
    ['pipeline', 'datapath'],
    ['datapath', 'pipeline'],
  ] as const) {
    const reached = new Set([from as string]);
    for (const part of reached) {
      for (const { path, code } of files) {
        if (partOf(path) === part) for (const target of importsOf(path, code)) reached.add(target);
      }
    }
    t.notOk(reached.has(to), `${from} reaches ${[...reached].join(', ')}`);
  }
  t.end();
});

/** In code that matches `where`; it has to be found there, or the pattern has gone stale. */
const only = (what: string, pattern: RegExp, where: RegExp): void => {
  t.test(`${what} only in ${where.source}`, (t) => {
    const found = files.filter(({ code }) => pattern.test(code)).map(({ path }) => path);
    t.same(
      found.filter((path) => !where.test(path)),
      [],
    );
    t.ok(
      found.some((path) => where.test(path)),
      'and there it is found',
    );
    t.end();
  });
};
only('the addon is loaded', /\.node['"`]|dlopen|node-gyp/, /^datapath\/binding\.ts$/);
only('binding.ts is imported', /['"][./\w]*\/binding\.ts['"]/, /^datapath\//);
only(
  'clocks, timers and randomness are called',
  /\b(?:Date\.now|Math\.random|randomBytes|performance\.now|hrtime(?:\.bigint)?|setTimeout|setInterval)\(|\bnew Date\(\)|timers\/promises/,
  /^(?:switch\.ts$|cli\/)/,
);

/** `table` for table/fdb.ts, `switch` for switch.ts. */
function partOf(path: string): string {
  return path.replace(/\.ts$/, '').split('/', 1)[0] ?? '';
}

/** The parts and packages that a file imports, types included. */
function importsOf(path: string, code: string): string[] {
  const specifiers = code.matchAll(
    /(?:\bfrom|\bimport|\bimport\(|createRequire\(import\.meta\.url\)\()\s*'([^'\s]+)'/g,
  );
  return [...specifiers].flatMap(([, specifier = '']) => {
    if (specifier.endsWith('.node')) return []; // the addon: a test of its own
    if (specifier.startsWith('.')) return partOf(relative(src, join(src, dirname(path), specifier)));
    if (specifier.startsWith('node:')) return 'node';
    return specifier
      .split('/')
      .slice(0, specifier.startsWith('@') ? 2 : 1)
      .join('/');
  });
}

/** Block comments and lines that are a comment. */
function withoutComments(code: string): string {
  return code.replace(/\/\*[^]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
}
