/** What `weft doctor` says about a machine. */
import { mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { OutsideState } from '../../src/outside/state.ts';
import type { CheckReport, HostReport, SharedStoreReport } from '../../src/model/report.ts';
import type { Probe } from '../../src/paths/probe.ts';
import type { UnderlayInterface } from '../../src/link/underlay.ts';
import type { Path } from '../../src/paths/paths.ts';
import { diagnose, type DoctorEnvironment } from '../../src/observe/doctor.ts';
import { openLab } from '../support/lab.ts';
import { run } from '../support/process.ts';
import { needsRoot } from '../support/root.ts';
import { datapathKinds, Weft } from '../support/weft.ts';

const offloadChecks = ['udp segment', 'udp gro', 'tap uso'] as const;
const flowCache: DoctorEnvironment['flowCache'] = {
  ...{ flows: 10, flowLimit: 1000, masks: 3, maskLimit: 64 },
  refused: { flows: 0, masks: 0, dropMasks: 0 },
  evicted: { flows: 0, masks: 0 },
};
const everything = { udpSegment: true, udpGro: true, tapUso: true };

async function checksWith(more: Partial<DoctorEnvironment>): Promise<CheckReport[]> {
  const { checks } = await diagnose({
    state: tmpdir(),
    store: undefined,
    waitsFor: undefined,
    policies: () => Promise.resolve([]),
    registration: null,
    inForce: null,
    underlay: undefined,
    tunnel: undefined,
    vxlanPort: 4789,
    peers: [],
    hosts: [],
    paths: new Map(),
    networks: [],
    underlayInterface: async () => undefined,
    encapBytes: 50,
    probe: undefined,
    offloads: everything,
    outside: undefined,
    published: [],
    clashes: [],
    hooks: [],
    ...{ refusedRecords: [], refusedRecordCount: 0 },
    confirmation: { waiting: null, takenBack: null },
    internal: null,
    ownAddresses: async () => new Set(),
    endpoints: async () => ({ local: 2, problems: {} }),
    flowCache,
    audit: { flows: 9, connections: 8, mismatches: 0 },
    lostUpcalls: 0,
    ...more,
  });
  return checks;
}

const only = (checks: readonly CheckReport[], name: string): CheckReport | undefined =>
  checks.find(({ check }) => check === name);

t.test('a state directory that cannot be written', { skip: needsRoot }, async (t) => {
  const state = mkdtempSync(join(tmpdir(), 'weft-state-'));
  await run(['mount', '-t', 'tmpfs', '-o', 'size=2m,mode=700', 'tmpfs', state]);
  t.teardown(async () => {
    await run(['umount', state]);
    rmdirSync(state);
  });
  const about = async (): Promise<CheckReport | undefined> => only(await checksWith({ state }), 'state');
  t.match(await about(), { result: 'ok', detail: `${state} can be written` });
  writeFileSync(join(state, 'fill'), Buffer.alloc(2 << 20));
  t.match(await about(), {
    result: 'failed',
    detail: `${state}: its file system is full, 0 KiB are left`,
    hint: /nothing can be attached/,
  });
  rmSync(join(state, 'fill'));
  await run(['mount', '-o', 'remount,ro', state]);
  t.match(await about(), { result: 'failed', detail: new RegExp(`^${state} cannot be written: EROFS`) });
  t.match(only(await checksWith({ state: '/nowhere/weft' }), 'state'), { result: 'failed', detail: /ENOENT/ });
});

t.test('records of the store that are not accepted', async (t) => {
  const why = 'clusterIP 10.0.0.1 is not in 10.96.0.0/16, where services get their addresses';
  const records = [
    { kind: 'Service', name: 'web', namespace: 'shop', why },
    { kind: 'Network', name: 'blue', why: 'it clashes' },
  ];
  const checks = (await checksWith({ refusedRecords: records })).filter(({ check }) => check === 'record');
  t.same(
    checks.map(({ result, detail }) => [result, detail]),
    [
      ['warning', `service "shop/web" waits: ${why}`],
      ['warning', 'network "blue" waits: it clashes'],
    ],
  );
});

t.test('of very many, some are named, and the others counted', async (t) => {
  const refusedRecords = [{ kind: 'NetworkPolicy', name: 'db', namespace: 'shop', why: 'it is no JSON object' }];
  const checks = await checksWith({ refusedRecords, refusedRecordCount: 16_001 });
  t.same(
    checks.filter(({ check }) => check === 'record').map(({ detail }) => detail),
    [
      'networkpolicy "shop/db" is closed: it allows nothing of what cannot be read: it is no JSON object',
      '16000 more records of the store are not accepted',
    ],
  );
});

t.test('what is not cached as it would be decided', async (t) => {
  t.match(only(await checksWith({}), 'audit'), {
    result: 'ok',
    detail: '9 times a cached flow and 8 times a connection was decided again: all were as they are cached',
  });
  const last = { what: 'flow 7', why: 'the datapath does not have it' };
  t.match(only(await checksWith({ audit: { flows: 9, connections: 8, mismatches: 2, last } }), 'audit'), {
    result: 'warning',
    detail:
      /: 2 were not as they are cached, which was repaired. The latest one: flow 7: the datapath does not have it$/,
    hint: /defect of weft/,
  });
});

t.test('frames that were lost while they waited for a decision', async (t) => {
  t.match(only(await checksWith({}), 'decisions'), { result: 'ok', detail: 'no decision failed' });
  t.match(only(await checksWith({ lostUpcalls: 4 }), 'decisions'), {
    result: 'warning',
    detail: '4 frames were lost while they waited for a decision',
    hint: 'see the log of weft up for decisions that failed; if there are none, ports went while their frames waited',
  });
});

t.test('a change that waits to be confirmed, and what was left alone when one was taken back', async (t) => {
  t.equal(only(await checksWith({}), 'confirmation'), undefined);
  const waiting = { host: 'a', until: '2025-01-01T00:01:00.000Z', resources: ['network "blue"'], isTakenBack: false };
  const takenBack = { at: '2025-01-01T00:00:00.000Z', resources: [], left: [{ resource: 'network "red"', why: 'so' }] };
  const checks = await checksWith({ confirmation: { waiting, takenBack } });
  t.match(
    checks.filter(({ check }) => check === 'confirmation').map(({ detail, hint }) => [detail, hint]),
    [
      [/^when a change was taken back at 2025-01-01T00:00:00.000Z, these stayed as they were: network "red" \(so\)$/],
      [/^a change of network "blue", made on host "a", is taken back at 2025-01-01T00:01/, '`weft confirm` keeps it'],
    ],
  );
});

t.test('whether containers can ask for names', async (t) => {
  const listening = ['udp/53', 'tcp/53'];
  t.equal(only(await checksWith({}), 'own sockets'), undefined);
  t.match(only(await checksWith({ internal: { open: true, listening } }), 'own sockets'), {
    result: 'ok',
    detail: 'udp/53, tcp/53 at the gateways',
  });
  const closed = { open: false, listening, why: 'they cannot be opened' };
  t.match(only(await checksWith({ internal: closed }), 'own sockets'), {
    result: 'failed',
    detail: 'they cannot be opened',
    hint: /weft status/,
  });
  const waitsFor = 'the store cannot be reached (nothing listens there): weft goes on when it can be used';
  t.same(only(await checksWith({ internal: { open: false, listening }, waitsFor }), 'own sockets'), {
    ...{ check: 'own sockets', result: 'failed' },
    detail: `they are opened when the cluster is known: ${waitsFor}`,
  });
});

t.test('a peer that is not probed may be behind a firewall, which is a warning', async (t) => {
  const unprobed: HostReport = {
    ...{ name: null, underlay: '192.0.2.2', state: 'unprobed' as const, why: 'there is no key for it', since: '' },
    ...{ roundTripMs: null, lossIn: { lost: 0, of: 0 }, lossOut: { lost: 0, of: 0 }, pathMtu: null, vnis: null },
  };
  const underlay = {
    underlay: '192.0.2.1',
    underlayInterface: async () => ({ name: 'eth0', mtu: 1500, isLoopback: false }),
  };
  t.match(only(await checksWith({ ...underlay, hosts: [unprobed] }), 'tunnel 192.0.2.2'), {
    result: 'warning',
    detail: 'nobody knows whether frames arrive: there is no key for it',
    hint: /^let UDP 4789 through between the hosts, and give both the same key \(`weft key`\)/,
  });
});

const store: SharedStoreReport = {
  ...{ cluster: 'a', prefix: 'weft/', reachable: true, revision: 7, pending: [], lost: [], signs: [], held: [] },
  audit: { runs: 1, mismatches: 0 },
};

t.test('a store of which nothing is known here, or that is another one', async (t) => {
  t.match(only(await checksWith({ store }), 'store'), { result: 'ok' });
  const away = { ...store, cluster: null, reachable: false, why: '192.0.2.100:2379: nothing listens there' };
  const detail = 'cannot be reached (192.0.2.100:2379: nothing listens there, since the start)';
  t.match(only(await checksWith({ store: away }), 'store'), { result: 'failed', detail, hint: /^what is known stays/ });
  t.match(only(await checksWith({ store: away, waitsFor: 'it' }), 'store'), {
    detail,
    hint: /knows nothing of the cluster/,
  });
  const refused = {
    ...store,
    refused: 'it is another one',
    losses: [{ name: 'network "blue"', change: 'deleted' as const }],
  };
  t.match(only(await checksWith({ store: refused }), 'store'), {
    detail: 'it is another one',
    hint: 'what goes or changes here with that: network "blue" (deleted)',
  });
});

t.test('what the kernel does for superframes', async (t) => {
  const all = await checksWith({});
  for (const name of offloadChecks) t.match(only(all, name), { result: 'ok' }, name);

  const lacking = {
    'udp segment': [{ ...everything, udpSegment: false }, /sent into the tunnel a datagram at a time/, /4\.18/],
    'udp gro': [{ ...everything, udpGro: false }, /received a datagram at a time/, /5\.0/],
    'tap uso': [{ ...everything, tapUso: false }, /cut before a container gets them/, /6\.2/],
  } as const;
  for (const [name, [offloads, detail, hint]] of Object.entries(lacking)) {
    const checks = await checksWith({ offloads });
    t.match(only(checks, name), { result: 'warning', detail, hint }, `no ${name}: what weft does instead`);
    const others = checks.filter(({ check, result }) => check !== name && result === 'warning');
    t.same(
      others,
      all.filter(({ result }) => result === 'warning'),
      'and nothing else',
    );
  }

  const untried = await checksWith({ offloads: { ...everything, tapUso: 'EPERM' } });
  t.match(only(untried, 'tap uso'), { result: 'warning', detail: /EPERM/ });
});

t.test('what the flow cache had no room for', async (t) => {
  const names = ['flow cache', 'cached flows', 'masks of flows', 'masks of drops'];
  const about = async (more: Partial<typeof flowCache>): Promise<CheckReport[]> =>
    (await checksWith({ flowCache: { ...flowCache, ...more } })).filter(({ check }) => names.includes(check));
  t.match(await about({}), [{ check: 'flow cache', result: 'ok', detail: /10 of 1000 flows, 3 of 64 masks/ }]);
  t.match(await about({ evicted: { flows: 50, masks: 0 } }), [
    { check: 'cached flows', result: 'warning', detail: /^50 flows gave way.* 1000 are cached/, hint: /flowLimit/ },
  ]);
  t.match(await about({ refused: { flows: 0, masks: 7, dropMasks: 8 }, evicted: { flows: 0, masks: 2 } }), [
    {
      ...{ check: 'masks of flows', result: 'warning' },
      detail: /^7 flows were not cached.* all 64 masks were in use; 2 masks gave way$/,
      hint: /`weft flows`/,
    },
    {
      check: 'masks of drops',
      result: 'warning',
      detail: /^8 drops were not cached.*half of the 64/,
      hint: /`weft drops`/,
    },
  ]);
});

t.test('the outside, where a network has one', async (t) => {
  const closed = { forwarding: { ip4: true, ip6: true }, droppingChains: [] };
  const checksOf = async (state: OutsideState): Promise<CheckReport[]> =>
    (await checksWith({ outside: async () => state })).filter(({ check }) => check.startsWith('outside'));
  const about = (more: Partial<OutsideState>): Promise<CheckReport[]> =>
    checksOf({ ...closed, open: { rules: [], link: [] }, ...more });
  t.same(
    (await about({})).map(({ check, result }) => `${check} ${result}`),
    ['outside rules ok', 'outside link ok', 'outside forwarding ok'],
  );
  t.match(await checksOf({ ...closed, nftFailure: '`nft` is not installed' }), [
    { check: 'outside rules', result: 'failed', detail: '`nft` is not installed' },
    { check: 'outside forwarding' },
  ]);
  t.match(await checksOf(closed), [
    { check: 'outside rules', result: 'failed', detail: 'the outside is not open', hint: /weft status/ },
    { check: 'outside forwarding' },
  ]);
  t.match(
    await about({ open: { rules: ['table inet weft is not as it was loaded'], link: ['weft0 is down', 'no MAC'] } }),
    [
      { check: 'outside rules', result: 'failed', detail: /another program/, hint: /weft status/ },
      { check: 'outside link', result: 'failed', detail: /^weft0 is down; no MAC: another/, hint: /weft status/ },
    ],
  );
  t.match((await about({ forwarding: { ip4: true, ip6: false } }))[2], {
    result: 'failed',
    detail: /^net\.ipv6\.conf\.all\.forwarding switched off/,
    hint: 'sysctl -w net.ipv6.conf.all.forwarding=1',
  });
  t.match((await about({ forwarding: { ip4: true } }))[2], { result: 'ok', detail: /of IPv4 alone/ });
  t.match((await about({ droppingChains: ['ip filter FORWARD'] }))[3], {
    check: 'outside firewall',
    result: 'warning',
    detail: /^ip filter FORWARD: drops/,
    hint: /weft0/,
  });
  t.match((await about({ clash: 'address 169.254.77.1/16 of eth1 …' }))[3], {
    check: 'outside addresses',
    result: 'failed',
  });
  t.same(
    (await checksWith({})).filter(({ check }) => check.startsWith('outside')),
    [],
    'and nothing where none has',
  );
});

t.test('ports that are published where this host is not', async (t) => {
  const port = {
    family: 4,
    protocol: 'TCP',
    endpoint: 'web',
    network: 'blue',
    address: '10.0.0.2',
    l4Port: 80,
  } as const;
  const published = [
    { ...port, hostPort: 8080 },
    { ...port, hostPort: 8081, hostIp: '192.0.2.1' },
    { ...port, hostPort: 8082, hostIp: '203.0.113.99' },
  ];
  const checks = await checksWith({ published, ownAddresses: async () => new Set(['192.0.2.1']) });
  t.same(
    checks.filter(({ check }) => check.startsWith('published')),
    [
      {
        check: 'published web',
        result: 'warning',
        detail: '203.0.113.99 is not an address of this host: 8082/tcp of endpoint "web" is not reached there',
        hint: 'give the address to an interface of this host, or publish the port on another',
      },
    ],
  );
});

t.test('a network whose packets are larger than the underlay takes', async (t) => {
  const about = async (mtu: number, isLoopback = false): Promise<CheckReport | undefined> => {
    const underlayInterface = async (): Promise<UnderlayInterface> => ({ name: 'u', mtu: 1500, isLoopback });
    const environment = {
      store: undefined,
      underlay: '192.0.2.1',
      networks: [{ name: 'blue', mtu }],
      underlayInterface,
    };
    return only(await checksWith(environment), 'mtu blue');
  };
  t.match(await about(1450), { result: 'ok', detail: '1450, and 50 for encapsulation, fits 1500' });
  t.match(await about(9000, true), { result: 'ok' });
  t.match(await about(1451), {
    result: 'warning',
    detail:
      '1451, and 50 for encapsulation, exceeds 1500 of u: packets of blue over 1450 bytes do not pass, their senders are told',
    hint: 'raise the MTU of u to 1501, or create the network with --mtu 1450',
  });
});

t.test('what the paths to other hosts take, and who says so', async (t) => {
  const peer = '192.0.2.2';
  const about = async (path: Path, more: Partial<DoctorEnvironment> = {}): Promise<CheckReport | undefined> => {
    const probe: Probe = async () => ({ isReachable: true, roundTripMs: 1 });
    const underlayInterface = async (): Promise<UnderlayInterface> => ({ name: 'u', mtu: 1500, isLoopback: false });
    const networks = [{ name: 'blue', mtu: 1450 }];
    const environment = {
      store: undefined,
      underlay: '192.0.2.1',
      paths: new Map([[peer, path]]),
      networks,
      underlayInterface,
      probe,
    };
    return only(await checksWith({ ...environment, ...more }), `path ${peer}`);
  };
  t.match(await about({ mtu: 1500, source: 'kernel', isConfirmed: true }), { result: 'ok', detail: 'MTU 1500' });
  t.match(await about({ mtu: 1400, source: 'kernel', isConfirmed: true }), {
    result: 'warning',
    detail: /^MTU 1400: packets of blue over 1350 bytes do not pass, their senders are told$/,
  });
  t.match(await about({ mtu: 1400, source: 'probed', isConfirmed: true }), {
    result: 'warning',
    detail: /^MTU 1400 \(found by probes: larger ones are lost\): packets of blue over 1350 bytes/,
    hint: /raise the MTU/,
  });
  const unsure = { mtu: 1500, source: 'kernel', isConfirmed: false } as const;
  t.match(await about(unsure), { result: 'warning', detail: /as the kernel knows it/, hint: /ICMP echo/ });
  t.match(await about(unsure, { probe: undefined }), { result: 'warning', hint: /raw-socket/ });
});

for (const datapath of datapathKinds) {
  t.test(`weft doctor beside a ${datapath} datapath that runs`, { skip: needsRoot }, async (t) => {
    const lab = openLab(t);
    const host = await lab.namespace('host');
    await host.ip('addr add 192.0.2.1/32 dev lo');
    const weft = await Weft.up(lab, host, 'host', { datapath, underlay: '192.0.2.1' });
    const { checks } = (await weft.json('doctor')) as { checks: CheckReport[] };
    for (const name of offloadChecks) t.not(only(checks, name), undefined, name);
    t.same(
      checks.filter(({ detail }) => /could not be tried/.test(detail)),
      [],
      'each could be tried',
    );
    t.same(await host.links(), [], 'and no interface is left');
    for (const name of offloadChecks) t.match(await weft.run('doctor'), name);
  });
}

const other = (name: string, state: HostReport['state']): HostReport => ({
  ...{ name, underlay: name, state, since: '2026-07-28T10:00:00.000Z', roundTripMs: null, pathMtu: 1500, vnis: null },
  ...{ lossIn: { lost: 0, of: 0 }, lossOut: { lost: 0, of: 0 } },
});
const away: SharedStoreReport = {
  ...{
    cluster: 'c',
    prefix: 'weft/',
    reachable: false,
    why: 'no answer',
    revision: 7,
    pending: [],
    lost: [],
    signs: [],
  },
  ...{ held: [], audit: { runs: 0, mismatches: 0 } },
};

t.test('a host that hears nothing of anybody may be cut off itself, which comes first', async (t) => {
  const first = async (hosts: readonly HostReport[], store?: SharedStoreReport): Promise<string | undefined> =>
    (await checksWith({ hosts, ...(store && { store }) })).find(({ check }) => check === 'this host')?.detail;
  const [b, c] = [other('192.0.2.2', 'down'), other('192.0.2.3', 'suspect')];
  t.equal(await first([b, c], away), 'it may be cut off: nothing is heard from the store or any of its 2 peers');
  t.equal((await checksWith({ hosts: [b, c], store: away }))[0]!.check, 'this host');
  t.equal(await first([b], away), 'it may be cut off: nothing is heard from the store or its only peer');
  t.equal(await first([b, c]), 'it may be cut off: nothing is heard from any of its 2 peers');
  t.equal(await first([b]), undefined, 'it may be that one');
  t.equal(await first([b, other('192.0.2.3', 'up')], away), undefined);
  t.equal(await first([b, c], { ...away, reachable: true }), undefined);
  t.equal(await first([other('192.0.2.3', 'unprobed')], away), undefined);
});

t.test('others that cannot say what they have in force are not blamed for that', async (t) => {
  const unknown = (host: string) => ({ host, state: 'unknown', why: 'the store is away' }) as const;
  const checks = await checksWith({
    store: away,
    registration: { state: 'registered' },
    inForce: { revision: 9, hosts: [unknown('b'), unknown('c'), { host: 'd', state: 'in force' }] },
  });
  t.match(only(checks, 'in force'), { result: 'warning', detail: 'b, c cannot say it while the store is away' });
  t.same(
    checks.filter(({ check }) => check.startsWith('host ')),
    [],
  );
});
