/** Metrics: what is exported, in which formats, what it says, and that the documentation lists it. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { dropReasons } from '../../src/flow/reason.ts';
import { metrics } from '../../src/metrics/catalogue.ts';
import { EventLoopDelay, LOOK_MS, UNREAD_MS, type Delays } from '../../src/metrics/event-loop.ts';
import { exposition } from '../../src/metrics/exposition.ts';
import type { Sources } from '../../src/metrics/metric.ts';
import { formatOf, Metrics } from '../../src/metrics/metrics.ts';
import type { StatusReport } from '../../src/model/report.ts';
import { fakeSwitch } from '../api/fake-switch.ts';
import { until } from '../support/process.ts';
import { parseMetrics } from './parse.ts';

const plain = fakeSwitch().status();
const port = plain.ports[0]!;
const status: StatusReport = {
  ...plain,
  datapath: { ...plain.datapath, drops: { spoof_mac: 5 } },
  sharedStore: {
    prefix: 'weft/',
    cluster: '0123',
    reachable: false,
    why: 'no answer',
    since: '2025-01-01T00:00:10.000Z',
    revision: 77,
    pending: ['endpoint "web"'],
    lost: [],
    signs: ['it is empty'],
    held: [
      { name: 'network "blue"', change: 'deleted' },
      { name: 'network "red"', change: 'changed' },
    ],
    audit: { runs: 3, mismatches: 0 },
  },
  hooks: [
    { name: 'a', file: 'a.ts', state: 'in_force', onError: 'deny', asked: 7, failures: 2, quarantines: 1 },
    // One that is declared, and one in a file.
    {
      name: 'a',
      file: 'b.ts',
      state: 'quarantine',
      onError: 'deny',
      why: 'it loops',
      asked: 1,
      failures: 0,
      quarantines: 1,
    },
  ],
  registration: { state: 'registered' },
  inForce: {
    revision: 70,
    hosts: [
      { host: 'a', state: 'in force', revision: 75, behind: 0 },
      { host: 'b', state: 'cut off', revision: 67, behind: 3 },
      { host: 'c', state: 'down' },
    ],
  },
  tunnel: { open: true },
  outside: { open: false, why: 'it is closed' },
  internal: { open: true, listening: [] },
  peers: ['192.0.2.2', 'fd00::2'],
  pathMtus: { '192.0.2.2': 1500, 'fd00::2': 1400 },
  pathSources: { '192.0.2.2': 'kernel', 'fd00::2': 'probed' },
  fdb: { entries: 7, learned: { web: 2, '192.0.2.2': 3 }, evicted: 4, moves: 5 },
  ports: [
    port,
    { ...port, port: 3, name: 'shop/web', rxFrames: 11 },
    { ...port, port: 1, name: 'underlay', kind: 'vxlan', network: null, rxFrames: 12 },
    { ...port, port: 4, name: 'outside', network: null, rxFrames: 13 },
    // An endpoint that is called as a port of weft itself is.
    { ...port, port: 5, name: 'outside', rxFrames: 14 },
    { ...port, port: 6, name: '6', network: null, rxFrames: 15 },
  ],
};
const sources: Sources = {
  status,
  peers: [
    {
      name: 'b',
      underlay: '192.0.2.2',
      state: 'down',
      why: 'no answer',
      since: '2025-01-01T00:00:10.000Z',
      roundTripMs: null,
      lossIn: { lost: 0, of: 0 },
      lossOut: { lost: 0, of: 0 },
      pathMtu: 1500,
      vnis: null,
    },
    {
      name: null,
      underlay: 'fd00::2',
      state: 'up',
      since: '2025-01-01T00:00:10.000Z',
      roundTripMs: 0.25,
      lossIn: { lost: 1, of: 4 },
      lossOut: { lost: 0, of: 4 },
      pathMtu: 1400,
      vnis: [1],
    },
  ],
  process: { cpuSeconds: 1.5, openDescriptors: 20, mostDescriptors: 1024 },
  eventLoop: { medianSeconds: 0.0001, p99Seconds: 0.002, longestSeconds: 0.05 },
};

t.test('both formats are what Prometheus reads, and say the same', async (t) => {
  const { contentType, text } = await exposition(sources, 'prometheus');
  t.equal(contentType, 'text/plain; version=0.0.4; charset=utf-8');
  const read = parseMetrics(text, 'prometheus');
  const open = await exposition(sources, 'openmetrics');
  t.equal(open.contentType, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  t.same([...parseMetrics(open.text, 'openmetrics')], [...read]);
  t.same(
    [...read.keys()],
    metrics.map(({ name }) => name),
    'every metric has a value here',
  );
  const value = (name: string, labels = ''): number | undefined => read.get(name)?.values.get(labels);
  t.equal(value('weft_rx_frames_total'), 5);
  t.equal(value('weft_dropped_frames_total', '{reason="spoof_mac"}'), 5);
  t.equal(read.get('weft_dropped_frames_total')?.values.size, dropReasons.length, 'also those that did not occur');
  t.equal(value('weft_tunnel_open'), 1);
  t.equal(value('weft_outside_open'), 0);
  t.equal(value('weft_peer_state', '{peer="192.0.2.2",state="down"}'), 1);
  t.equal(value('weft_peer_state', '{peer="192.0.2.2",state="up"}'), 0);
  t.equal(value('weft_peer_state', '{peer="fd00::2",state="up"}'), 1);
  t.same([...read.get('weft_peer_round_trip_seconds')!.values], [['{peer="fd00::2"}', 0.000_25]]);
  t.same(
    [...read.get('weft_peer_loss_ratio')!.values],
    [
      ['{peer="fd00::2",direction="in"}', 0.25],
      ['{peer="fd00::2",direction="out"}', 0],
    ],
  );
  t.equal(value('weft_registered'), 1);
  t.equal(value('weft_in_force_revision'), 70);
  t.equal(value('weft_host_state', '{host="a",state="in_force"}'), 1);
  t.equal(value('weft_host_state', '{host="b",state="cut_off"}'), 1);
  t.equal(value('weft_host_state', '{host="b",state="in_force"}'), 0);
  t.same(
    [...read.get('weft_host_lag_revisions')!.values],
    [
      ['{host="a"}', 0],
      ['{host="b"}', 3],
    ],
  );
  t.equal(value('weft_store_reachable'), 0);
  t.equal(value('weft_store_since_timestamp_seconds'), Date.UTC(2025, 0, 1, 0, 0, 10) / 1000);
  t.equal(value('weft_store_refused'), 0);
  t.equal(value('weft_store_not_followed'), 0);
  t.equal(value('weft_store_revision'), 77);
  t.equal(value('weft_store_pending_records'), 1);
  t.equal(value('weft_store_held_records'), 2);
  t.equal(value('weft_store_audits_total'), 3);
  t.equal(value('weft_peer_path_mtu_bytes', '{peer="fd00::2"}'), 1400);
  t.equal(value('weft_peer_path_mtu_probed', '{peer="fd00::2"}'), 1);
  t.equal(value('weft_peer_path_mtu_probed', '{peer="192.0.2.2"}'), 0);
  t.same(
    [...read.get('weft_port_rx_frames_total')!.values],
    [
      ['{kind="endpoint",network="blue",namespace="default",endpoint="web"}', 5],
      ['{kind="endpoint",network="blue",namespace="shop",endpoint="web"}', 11],
      ['{kind="vxlan",network="",namespace="",endpoint=""}', 12],
      ['{kind="outside",network="",namespace="",endpoint=""}', 13],
      ['{kind="endpoint",network="blue",namespace="default",endpoint="outside"}', 14],
    ],
    'one that is being removed is left out',
  );
});

t.test('what does not exist here has no value', async (t) => {
  const read = parseMetrics(
    (await exposition({ ...sources, status: plain, peers: [] }, 'prometheus')).text,
    'prometheus',
  );
  for (const name of [
    'weft_tunnel_open',
    'weft_outside_open',
    'weft_internal_open',
    'weft_store_reachable',
    'weft_registered',
  ])
    t.notOk(read.has(name), name);
});

t.test('names follow the conventions', async (t) => {
  t.equal(new Set(metrics.map(({ name }) => name)).size, metrics.length);
  for (const { name, kind, help, labels } of metrics) {
    t.match(name, /^(?:weft|process)_[a-z0-9]+(?:_[a-z0-9]+)*$/);
    t.equal(name.endsWith('_total'), kind === 'counter', name);
    t.notMatch(name, /_(?:ms|milliseconds|kib|mib|percent|count)(?:_|$)/, 'base units');
    t.match(help, /^[0-9A-Z][^\n"\\]*[^.\n"\\]$/, name);
    for (const label of labels) t.match(label, /^[a-z][a-z0-9_]*$/);
  }
});

t.test('docs/metrics.md lists all of them', async (t) => {
  const documentation = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const rows = documentation.split('\n').filter((line) => /^\| `(?:weft|process)_/.test(line));
  const row = ({ name, kind, labels, help }: (typeof metrics)[number]): string =>
    `| \`${name}\` | ${kind} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`;
  t.same(rows, metrics.map(row));
});

t.test('the format that is asked for', async (t) => {
  t.equal(formatOf(undefined), 'prometheus');
  t.equal(formatOf('*/*'), 'prometheus');
  t.equal(formatOf('application/openmetrics-text;version=1.0.0,text/plain;q=0.5'), 'openmetrics');
});

t.test('scrapes at one time share one reading; later ones read again', async (t) => {
  let readings = 0;
  const made = new Metrics({
    peers: () => sources.peers,
    status: () => {
      readings++;
      return status;
    },
    delays: () => sources.eventLoop,
  });
  const [first, second] = await Promise.all([made.text('prometheus'), made.text('prometheus')]);
  t.equal(first, second);
  t.equal(readings, 1);
  t.not(await made.text('prometheus'), first);
  t.equal(readings, 2);
  const report = await made.report();
  t.same(
    report.map(({ name, type }) => [name, type]),
    metrics.map(({ name, kind }) => [name, kind]),
  );
  t.same(report.find(({ name }) => name === 'weft_networks')?.values, [{ labels: {}, value: 1 }]);
});

t.test('delays of the event loop: each reader has those since it read last, and none is left out', async (t) => {
  let nowMs = 5000;
  let look: (() => void) | undefined;
  const timers = new Set<NodeJS.Timeout>();
  const eventLoop = new EventLoopDelay({
    clock: () => nowMs,
    every: (work, ms) => {
      t.equal(ms, LOOK_MS);
      look = work;
      const timer = setInterval(() => {}, 1e9);
      timers.add(timer);
      return timer;
    },
  });
  t.teardown(() => eventLoop.close());
  const [first, second] = [eventLoop.reader(), eventLoop.reader()];
  t.equal(look, undefined, 'nothing is measured for nobody');
  t.equal(first(), undefined);
  t.equal(second(), undefined);
  const after = (ms: number): void => {
    nowMs += ms;
    look!();
  };
  const about = (delays: Delays | undefined): number[] => {
    const { longestSeconds = -1, p99Seconds = -1, medianSeconds = -1 } = delays ?? {};
    return [medianSeconds, p99Seconds, longestSeconds].map((seconds) => Math.round(seconds * 100) / 100);
  };
  for (let n = 0; n < 145; n++) after(LOOK_MS);
  after(LOOK_MS + 100);
  after(LOOK_MS + 500);
  t.same(about(first()), [0, 0.1, 0.5]);
  t.equal(first(), undefined);
  after(LOOK_MS + 300);
  t.same(about(first()), [0.3, 0.3, 0.3], 'also what passed around the reading');
  t.same(about(second()), [0, 0.3, 0.5]);

  after(UNREAD_MS);
  after(UNREAD_MS);
  t.equal(first(), undefined, 'what was measured before is over');
  t.equal(timers.size, 2, 'nobody has read it for so long that it ended, and it begins again');
  after(LOOK_MS + 200);
  t.same(about(first()), [0.2, 0.2, 0.2]);
});

t.test('a timer of Node.js shows them', async (t) => {
  const eventLoop = new EventLoopDelay({ clock: () => performance.now(), every: setInterval });
  t.teardown(() => eventLoop.close());
  const read = eventLoop.reader();
  read();
  const startedAt = performance.now();
  while (performance.now() - startedAt < 200);
  await until(() => (read()?.longestSeconds ?? 0) >= 0.2 - LOOK_MS / 1000, { what: 'the delay is seen' });
});
