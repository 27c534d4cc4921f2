/** The rules of the house: who may import whom, and who may use clocks, randomness and the addon. */
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
  turns: '',
  labels: '',
  wire: '',
  flow: 'wire ipaddr.js',
  table: 'wire flow labels',
  model: 'wire labels zod yaml ipaddr.js',
  addon: 'flow wire package node node-gyp-build',
  pipeline: 'table flow wire model',
  datapath: 'addon flow wire node',
  control: 'pipeline table datapath flow',
  forwarding: 'control pipeline health datapath table flow wire',
  hooks: 'forwarding cluster model addon table package node esbuild',
  frames: 'flow wire',
  simulation: 'hooks forwarding cluster model datapath table flow',
  store: 'addon model package node @grpc/grpc-js protobufjs turns',
  cluster: 'labels model store table flow datapath forwarding link turns node',
  link: 'addon flow wire node',
  outside: 'forwarding addon link model table flow wire node',
  http: 'node @hono/node-server',
  metrics: 'http model flow turns package node prom-client',
  handover: 'addon flow package node',
  health: 'table flow node',
  checks: 'forwarding health internal cluster model store table flow package node',
  drivers: 'cluster discovery http model store node zod hono',
  discovery: 'cluster internal model addon package table wire flow node dns-packet',
  internal: 'forwarding addon link model table flow package node',
  paths: 'addon flow node raw-socket',
  observe: 'pipeline table flow wire control addon datapath model forwarding cluster link outside paths turns node',
  config: 'model store memory node wire zod yaml',
  'host-forwarding': 'forwarding config datapath addon pino',
  switch: '*',
  parts: '*',
  stores: 'config store cluster node',
  status: 'parts model package',
  upkeep: 'parts cluster flow node pino',
  'life-cycle': 'parts upkeep addon model',
  api: 'handover labels model metrics http package turns node hono @hono/node-server zod',
  library: 'api config life-cycle link model switch pino',
  cli: 'api model package node pino commander cli-table3 picocolors yaml',
  index: '*',
};

/** Files that may import more, and why. */
const exceptions: Readonly<Record<string, string>> = {
  // The server comes before the switch; the client knows only the model.
  'api/target.ts': 'switch',
  // The client prints and writes frames.
  'cli/capture.ts': 'wire observe',
  // It needs no daemon.
  'cli/hook.ts': 'hooks',
  // The command that is the daemon, and its code; what a start runs, for the build.
  'cli/rehearsal.ts': 'addon cluster config datapath flow link metrics parts store table wire',
  'cli/run-daemon.ts': 'cluster config memory addon drivers flow handover hooks http link switch store',
};

/** The maximum number of lines in a file; 400 are already many. */
const MOST_LINES = 600;
/** Of the file to read first, which has only what belongs to no other. */
const MOST_LINES_OF_SWITCH = 300;

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

t.test('imports go one way: neither files nor parts import each other in a circle', (t) => {
  const targets = new Map(files.map(({ path, code }) => [path, ownImportsOf(path, code)]));
  t.same(circleIn(targets), []);
  t.same(circleIn(joinedBy(partOf, targets)), []);
  t.same(circleIn(joinedBy(folderOf, targets)), [], 'nor do folders of a part and the files beside them');
  t.same(
    circleIn(
      new Map([
        ['a', ['b']],
        ['b', ['c', 'd']],
        ['c', []],
        ['d', ['b']],
      ]),
    ),
    ['b', 'd'],
    'one would be found',
  );
  t.end();
});

t.test('no two exported types have one name', (t) => {
  const places = new Map<string, string[]>();
  for (const { path, code } of files) {
    for (const [, name = ''] of code.matchAll(/^export (?:abstract )?(?:interface|type|class) (\w+)/gm)) {
      places.set(name, [...(places.get(name) ?? []), path]);
    }
  }
  t.ok(places.size > 100, 'types were found');
  t.same(
    [...places].filter(([, paths]) => paths.length > 1),
    [],
  );
  t.end();
});

t.test('no file of code has more than 600 lines', (t) => {
  const root = join(src, '..');
  const lengths = ['src', 'native', 'test'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((path) => /\.(?:ts|mjs|cc|h|py)$/.test(path))
      .map((path) => ({ path: join(folder, path), lines: lineCount(join(root, folder, path)) })),
  );
  t.same(
    lengths.filter(({ lines }) => lines > MOST_LINES),
    [],
    'split it by topic',
  );
  const first = lengths.find(({ path }) => path === 'src/switch.ts')!;
  t.ok(first.lines <= MOST_LINES_OF_SWITCH, `switch.ts has ${first.lines}: what it only passes on belongs elsewhere`);
  t.ok(
    lengths.some(({ path, lines }) => path === 'test/imports.test.ts' && lines > 100),
    'lines are counted',
  );
  t.end();
});

/** For code that matches `where`. It must be found there, otherwise the pattern is out of date. */
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
only('the addon is loaded', /\.node['"`]|dlopen|node-gyp/, /^addon\/addon\.ts$/);
only(
  'clocks, timers and randomness are called',
  /\b(?:Date\.now|Math\.random|randomBytes|performance\.now|hrtime(?:\.bigint)?|setTimeout|setInterval)\(|\bnew Date\(\)|timers\/promises/,
  /^(?:switch\.ts$|cli\/|(?:internal|discovery)\/worker\.ts$)/,
);

function lineCount(path: string): number {
  return readFileSync(path, 'utf8').split('\n').length - 1;
}

/** `table` for table/fdb.ts, `switch` for switch.ts. */
function partOf(path: string): string {
  return path.replace(/\.ts$/, '').split('/', 1)[0] ?? '';
}

/** `cluster/feed` for cluster/feed/state-copy.ts; the file itself if it is in no folder of its part. */
function folderOf(path: string): string {
  const folder = dirname(path);
  return folder.includes('/') ? folder : path;
}

/** The imports of a graph of files between whatever the files belong to. */
function joinedBy(
  wholeOf: (path: string) => string,
  files: ReadonlyMap<string, readonly string[]>,
): ReadonlyMap<string, ReadonlySet<string>> {
  const graph = new Map<string, Set<string>>();
  for (const [path, targets] of files) {
    const from = wholeOf(path);
    const others = graph.get(from) ?? new Set();
    graph.set(from, others);
    for (const target of targets) if (wholeOf(target) !== from) others.add(wholeOf(target));
  }
  return graph;
}

/** The files of src that a file imports, including types. */
function ownImportsOf(path: string, code: string): string[] {
  return specifiersOf(code)
    .filter((specifier) => specifier.startsWith('.') && specifier.endsWith('.ts'))
    .map((specifier) => relative(src, join(src, dirname(path), specifier)));
}

/** The first cycle that is found in this graph; empty if there is none. */
function circleIn(graph: ReadonlyMap<string, Iterable<string>>): string[] {
  const done = new Set<string>();
  const visit = (node: string, way: readonly string[]): string[] => {
    const at = way.indexOf(node);
    if (at >= 0) return way.slice(at);
    if (done.has(node)) return [];
    for (const target of graph.get(node) ?? []) {
      const circle = visit(target, [...way, node]);
      if (circle.length > 0) return circle;
    }
    done.add(node);
    return [];
  };
  for (const node of graph.keys()) {
    const circle = visit(node, []);
    if (circle.length > 0) return circle;
  }
  return [];
}

/** The parts and packages that a file imports, including types. */
function importsOf(path: string, code: string): string[] {
  return specifiersOf(code).flatMap((specifier) => {
    if (specifier.endsWith('.node')) return []; // the addon, which has a test of its own
    if (specifier.startsWith('.')) return partOf(relative(src, join(src, dirname(path), specifier)));
    if (specifier.startsWith('node:')) return 'node';
    return specifier
      .split('/')
      .slice(0, specifier.startsWith('@') ? 2 : 1)
      .join('/');
  });
}

function specifiersOf(code: string): string[] {
  const found = code.matchAll(/(?:\bfrom|\bimport|\bimport\(|createRequire\(import\.meta\.url\)\()\s*'([^'\s]+)'/g);
  return [...found].map(([, specifier = '']) => specifier);
}

/** Block comments, and lines that are only a comment. */
function withoutComments(code: string): string {
  return code.replace(/\/\*[^]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
}
