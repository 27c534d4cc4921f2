/** Whom this host probes, and what it says of those who probe it. */
import t from 'tap';
import { Peers } from '../../src/cluster/membership/peers.ts';
import type { LivenessSettings, PeerLiveness } from '../../src/datapath/liveness.ts';
import type { DropReason } from '../../src/flow/reason.ts';
import { formatIp, parseIp } from '../../src/flow/types.ts';
import type { ClashReport } from '../../src/model/report.ts';
import { nextTurn } from '../../src/turns.ts';

t.test('hosts are looked at only when they, networks or keys have changed', async (t) => {
  let [vteps, networks, key]: [readonly string[], { name: string; vni: number }[], Uint8Array] = [
    ['192.0.2.1', '192.0.2.2'],
    [{ name: 'blue', vni: 5 }],
    Uint8Array.of(1),
  ];
  const told: LivenessSettings[] = [];
  let looked = 0;
  const peers = new Peers({
    forwarding: {
      remote: {
        setLiveness: (settings) => void told.push(settings),
        setVtepsDown: () => {},
        peers: () => [],
        strangers: () => [],
      },
    },
    liveness: { session: new Uint8Array(8), intervalMs: 300, multiplier: 3 },
    vteps: () => {
      looked++;
      return vteps;
    },
    sources: () => [vteps, networks, key],
    nameOf: () => undefined,
    keyOf: () => key,
    networks: () => networks,
    pathMtu: () => undefined,
    isShared: true,
    vxlanPort: 4789,
    clock: () => 0,
    wallClock: () => 0,
    onChange: () => {},
    onHostChanged: () => {},
    followed: () => Promise.resolve(),
    onError: (error) => t.fail(String(error)),
  });
  for (let change = 0; change < 3; change++) peers.follow();
  t.equal(looked, 1);
  t.same(
    told[0]?.peers.map(({ address }) => formatIp(address)),
    vteps,
  );
  vteps = ['192.0.2.1'];
  peers.follow();
  t.same(
    told[1]?.peers.map(({ address }) => formatIp(address)),
    vteps,
  );
  networks = [{ name: 'green', vni: 6 }];
  peers.follow();
  t.same(told[2]?.vnis, [6]);
  key = Uint8Array.of(2);
  peers.follow();
  t.same(told[3]?.peers[0]?.key, key);
  key = Uint8Array.of(2);
  peers.follow();
  t.equal(told.length, 4, 'what is the same is not said again');
  peers.askForPatience();
  t.match(told[4], { intervalMs: 3000, multiplier: 3, vnis: [6] }, 'another daemon takes over: peers wait for longer');
  vteps = ['192.0.2.2'];
  peers.follow();
  t.equal(told[5]?.intervalMs, 3000, 'also after a change that is still under way');
});

const VTEP = '192.0.2.2';
const KEY = Buffer.alloc(32, 1);

interface Seen {
  /** The reason for which a probe was refused. */
  readonly reason?: DropReason;
  readonly sender?: string;
  /** When the last authentic probe of the peer came. */
  readonly heardMs?: number;
  /** For how long the last refused one is past. */
  readonly agoMs?: number;
  readonly isKeyed?: boolean;
  readonly isShared?: boolean;
}

const NOW_MS = 100_000;

function clashes(seen: Seen): ClashReport[] {
  const {
    reason = 'probe_unknown_peer',
    sender = VTEP,
    heardMs,
    agoMs = 500,
    isKeyed = false,
    isShared = false,
  } = seen;
  const address = parseIp(VTEP);
  const peer = {
    ...{ address, state: 'up', fault: 'none', hasTwin: false, sinceMs: 0, heardMs, roundTripMs: 1 },
    ...{ lossIn: 0, lossOut: 0, vnis: undefined },
  } as unknown as PeerLiveness;
  const peers = new Peers({
    forwarding: {
      remote: {
        setLiveness: () => {},
        setVtepsDown: () => {},
        peers: () => [peer],
        strangers: () => [{ address: parseIp(sender), reason, count: 1, lastMs: NOW_MS - agoMs }],
      },
    },
    liveness: { session: Buffer.alloc(8), intervalMs: 300, multiplier: 3 },
    vteps: () => [VTEP],
    sources: () => [],
    nameOf: () => 'there',
    keyOf: () => (isKeyed ? KEY : undefined),
    networks: () => [],
    pathMtu: () => undefined,
    isShared,
    vxlanPort: 4789,
    clock: () => NOW_MS,
    wallClock: () => 0,
    onChange: () => {},
    onHostChanged: () => {},
    followed: () => Promise.resolve(),
    onError: (error) => t.fail(String(error)),
  });
  return peers.clashes();
}

const details = (seen: Seen): string[] => clashes(seen).map(({ detail }) => detail);

t.test('probes that came before their host or its key was known are not told of once it is', async (t) => {
  const noKey = [`peer ${VTEP} probes this host, which has no key for it`];
  t.same(details({}), noKey);
  t.same(details({ heardMs: NOW_MS - 600 }), noKey);
  t.same(details({ heardMs: NOW_MS - 400 }), []);
  t.same(details({ isKeyed: true }), []);
  t.same(details({ sender: '192.0.2.3', heardMs: NOW_MS - 400 }), ['192.0.2.3 probes this host, and is no peer of it']);
});

t.test('of probes that have ceased, it is said when the last one came, and soon nothing', async (t) => {
  const stranger = { sender: '192.0.2.3' };
  const isNone = '192.0.2.3 probes this host, and is no peer of it';
  t.same(details({ ...stranger, agoMs: 1000 }), [isNone]);
  t.same(details({ ...stranger, agoMs: 12_000 }), [`${isNone} (last 12 s ago)`]);
  t.same(details({ ...stranger, agoMs: 31_000 }), []);

  const wrong = { reason: 'probe_unauthentic', isKeyed: true } as const;
  const hasWrong = `probes from ${VTEP} have a wrong key, or are for another host`;
  t.same(details({ ...wrong, agoMs: 12_000 }), [`${hasWrong} (last 12 s ago)`]);
  t.same(details({ ...wrong, agoMs: 12_000, heardMs: NOW_MS }), [], 'it has the right one by now');
  t.same(details({ ...wrong, heardMs: NOW_MS }), [hasWrong], 'somebody else sends from its address');
});

t.test('what to do about a stranger depends on where the peers come from', async (t) => {
  const hints = (isShared: boolean): string[] =>
    [{ sender: '192.0.2.3' }, { reason: 'probe_unauthentic', isKeyed: true } as const].map(
      (seen) => clashes({ ...seen, isShared })[0]!.hint,
    );
  t.match(hints(false), [/^give weft up --peer 192\.0\.2\.3,KEY here/, /^give both hosts the same key/]);
  t.match(hints(true), [/which store it uses/, /which store it uses/]);
  t.notMatch(hints(true).join(), '--peer');
});

/** Peers of one state, and what happens because of them. */
function following(vteps: readonly string[] = [VTEP]): {
  readonly peers: Peers;
  readonly happened: string[];
  readonly becomes: (state: PeerLiveness['state']) => void;
  /** Services have followed. */
  readonly follow: () => Promise<void>;
  /** What is known of peers cannot be put into force next time. */
  readonly fail: () => void;
} {
  let [state, fails]: [PeerLiveness['state'], boolean] = ['up', false];
  const happened: string[] = [];
  const waiting: (() => void)[] = [];
  const loss = { lost: 0, of: 0 };
  const rest = { hasTwin: false, sinceMs: 0, heardMs: 0, roundTripMs: 1, lossIn: loss, lossOut: loss, vnis: undefined };
  const peers = new Peers({
    forwarding: {
      remote: {
        setLiveness: () => {},
        setVtepsDown: (all) => {
          if (fails) throw new Error('it fails');
          if (all.length > 0)
            happened.push(all.map(({ isDown }) => `frames ${isDown ? 'are refused' : 'pass'}`).join());
        },
        strangers: () => [],
        peers: () =>
          vteps.map((vtep) => ({
            ...{ address: parseIp(vtep), state, fault: state === 'up' ? 'none' : 'silent', ...rest },
          })),
      },
    },
    liveness: { session: Buffer.alloc(8), intervalMs: 300, multiplier: 3 },
    vteps: () => vteps,
    sources: () => [],
    nameOf: () => 'there',
    keyOf: () => KEY,
    networks: () => [],
    pathMtu: () => undefined,
    isShared: true,
    vxlanPort: 4789,
    clock: () => NOW_MS,
    wallClock: () => 0,
    onChange: (peer) => void happened.push(`it is ${peer.state}`),
    onHostChanged: (host) => void happened.push(`${host} is ${peers.isAvoided(VTEP) ? 'avoided' : 'not avoided'}`),
    followed: () => new Promise((resolve) => void waiting.push(resolve)),
    onError: (error) => {
      fails = false;
      happened.push(String(error));
    },
  });
  peers.noteChanges();
  happened.splice(0);
  return {
    peers,
    happened,
    becomes: (next) => {
      state = next;
      peers.noteChanges();
    },
    follow: async () => {
      for (const resolve of waiting.splice(0)) resolve();
      await nextTurn();
    },
    fail: () => {
      fails = true;
    },
  };
}

const said = (peers: Peers): unknown[] => [
  peers.states()[VTEP],
  peers.report()[0]?.state,
  peers.isReachable(VTEP),
  peers.downMs(VTEP),
];

t.test('a peer is said to be down when services have left it, and frames to it are refused only then', async (t) => {
  const { peers, happened, becomes, follow } = following();
  becomes('down');
  t.same(happened.splice(0), ['there is avoided']);
  t.same(said(peers), ['up', 'up', true, undefined], 'until then it is said to be what it was');
  t.notOk(peers.report()[0]?.why);
  peers.noteChanges();
  t.same(happened, [], 'once');
  await follow();
  t.same(happened.splice(0), ['frames are refused', 'it is down']);
  t.same(said(peers), ['down', 'down', false, NOW_MS]);
  t.equal(peers.report()[0]?.why, 'nothing is heard from it');
  becomes('up');
  t.same(happened, ['frames pass', 'there is not avoided', 'it is up']);
});

t.test('frames to peers that go down together are refused in one change', async (t) => {
  const { happened, becomes, follow } = following([VTEP, '192.0.2.3']);
  becomes('down');
  happened.splice(0);
  await follow();
  t.same(happened, ['frames are refused,frames are refused', 'it is down', 'it is down']);
});

t.test('of one that the store does not have it matters whether it is known to run', async (t) => {
  const { happened, becomes } = following();
  for (const [state, told] of [
    ['suspect', ['frames pass', 'there is not avoided', 'it is suspect']],
    ['suspect', ['frames pass']],
    ['up', ['frames pass', 'there is not avoided', 'it is up']],
    ['unprobed', ['frames pass', 'there is not avoided', 'it is unprobed']],
    ['up', ['frames pass', 'there is not avoided', 'it is up']],
  ] as const) {
    becomes(state);
    t.same(happened.splice(0), told, state);
  }
});

t.test('one that comes back meanwhile was never down, also if it goes again', async (t) => {
  const { peers, happened, becomes, follow } = following();
  becomes('down');
  becomes('up');
  t.same(happened.splice(0), ['there is avoided', 'frames pass', 'there is not avoided']);
  await follow();
  t.same(happened, []);
  t.same(said(peers), ['up', 'up', true, undefined]);

  const again = following();
  again.becomes('down');
  const first = again.follow();
  again.becomes('up');
  again.becomes('down');
  again.happened.splice(0);
  await first;
  t.same(again.happened, [], 'services may have come back to it in between');
  await again.follow();
  t.same(again.happened, ['frames are refused', 'it is down']);
});

t.test('if it cannot be put into force that one is down, that is told, and tried again', async (t) => {
  const { peers, happened, becomes, follow, fail } = following();
  becomes('down');
  fail();
  await follow();
  t.same(happened.splice(0), ['there is avoided', 'Error: it fails']);
  t.same(said(peers), ['up', 'up', true, undefined]);
  peers.noteChanges();
  await follow();
  t.same(happened, ['there is avoided', 'frames are refused', 'it is down']);
});
