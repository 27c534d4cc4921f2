/** Which peers are alive: the same on every datapath. */
import t, { type Test } from 'tap';
import { buildVxlan, parseVxlan } from '../../src/wire/vxlan.ts';
import { PROBE_VNI } from '../../src/wire/probe.ts';
import { parseIp } from '../../src/flow/types.ts';
import { addressOf, Fleet, INTERVAL_MS, keyOf, TUNNEL, WINDOW_MS, type FleetOptions } from './fleet.ts';
import type { Open } from './harness.ts';

/** How long after the last probe a peer is down at the latest: the judge pauses 2 ms. */
const KNOWN_MS = WINDOW_MS + 2;

export function runLiveness(name: string, open: Open): void {
  const test = (title: string, hosts: number, body: (t: Test, fleet: Fleet) => void, options?: FleetOptions): void =>
    void t.test(`${name}: ${title}`, async (t) => {
      const fleet = new Fleet(open, hosts, options);
      try {
        body(t, fleet);
      } finally {
        fleet.close();
      }
    });

  test(
    'two hosts find each other at once, and know the way between them',
    2,
    (t, fleet) => {
      fleet.advance(10);
      t.equal(fleet.state(1, 2), 'up');
      t.equal(fleet.state(2, 1), 'up');
      fleet.delayMs = 4;
      fleet.advance(60 * INTERVAL_MS);
      const peer = fleet.peer(1, 2);
      t.ok(Math.abs(peer.roundTripMs! - 8) < 0.5, `round trip ${peer.roundTripMs} ms`);
      t.same(
        [peer.lossIn, peer.lossOut],
        [
          { lost: 0, of: 64 },
          { lost: 0, of: 64 },
        ],
      );
      t.same(peer.vnis, [100, 200]);
      t.equal(fleet.changes(1), 1, 'one change of its peers');
      t.same([fleet.drops(1), fleet.drops(2)], [{}, {}]);
      const times = fleet.probes(1, 2).length;
      t.ok(times >= 60 && times <= 84, `${times} probes: one in 75 to 100 % of the interval`);
    },
    { vnis: (host) => (host === 2 ? [100, 200] : []) },
  );

  test('a host without power is down after the window, and up again at once', 2, (t, fleet) => {
    fleet.advance(3000);
    fleet.carries = () => false;
    fleet.advance(WINDOW_MS - INTERVAL_MS - 1);
    t.equal(fleet.state(1, 2), 'up', 'nothing is known before the window ends');
    fleet.advance(INTERVAL_MS + 3);
    t.equal(fleet.state(1, 2), 'down: silent');
    t.equal(fleet.state(2, 1), 'down: silent');
    const { sinceMs, heardMs } = fleet.peer(1, 2);
    t.ok(sinceMs - heardMs! <= KNOWN_MS, `${sinceMs - heardMs!} ms after its last probe`);
    fleet.advance(20_000);
    t.equal(fleet.state(1, 2), 'down: silent', 'and stays so');
    fleet.carries = () => true;
    fleet.advance(INTERVAL_MS + 5);
    t.equal(fleet.state(1, 2), 'up');
    t.equal(fleet.state(2, 1), 'up');
  });

  test('one way alone is cut: both are down, and each knows why', 2, (t, fleet) => {
    fleet.advance(3000);
    fleet.carries = (from) => from !== addressOf(1);
    fleet.advance(KNOWN_MS + 5);
    t.equal(fleet.state(2, 1), 'down: silent');
    t.equal(fleet.state(1, 2), 'down: unheard', 'the peer has said so at once');
    fleet.carries = () => true;
    fleet.advance(INTERVAL_MS + 5);
    t.equal(fleet.state(1, 2), 'up');
    t.equal(fleet.state(2, 1), 'up');
  });

  test('a host that is to be silent for a while tells its peers at once that they must be patient', 2, (t, fleet) => {
    fleet.advance(3000);
    fleet.pace(1, 4 * INTERVAL_MS);
    fleet.advance(5);
    fleet.carries = (from) => from !== addressOf(1);
    fleet.advance(4 * KNOWN_MS - 2 * INTERVAL_MS);
    t.equal(fleet.state(2, 1), 'up');
    fleet.advance(3 * INTERVAL_MS);
    t.equal(fleet.state(2, 1), 'down: silent', 'but not for ever');
    fleet.carries = () => true;
    fleet.advance(4 * INTERVAL_MS + 5);
    t.equal(fleet.state(2, 1), 'up');
  });

  test('one way alone is cut from the start', 2, (t, fleet) => {
    fleet.carries = (from) => from !== addressOf(1);
    fleet.advance(10_000);
    t.equal(fleet.state(2, 1), 'unprobed: silent');
    t.equal(fleet.state(1, 2), 'unprobed: unheard');
  });

  test('loss is known for each direction', 2, (t, fleet) => {
    let sent = 0;
    fleet.carries = (from) => from !== addressOf(1) || ++sent % 4 !== 0;
    fleet.advance(100 * INTERVAL_MS);
    t.equal(fleet.state(1, 2), 'up');
    t.ok(Math.abs(fleet.peer(1, 2).lossOut.lost - 16) <= 1, `${fleet.peer(1, 2).lossOut.lost} of 64`);
    t.same(fleet.peer(1, 2).lossIn, { lost: 0, of: 64 });
    t.ok(Math.abs(fleet.peer(2, 1).lossIn.lost - 16) <= 1);
  });

  test(
    'a peer that never answers is unprobed, and so is one without a key',
    3,
    (t, fleet) => {
      fleet.carries = (from) => from !== addressOf(2);
      fleet.advance(60_000);
      t.equal(fleet.state(1, 2), 'unprobed: silent');
      t.equal(fleet.state(1, 3), 'unprobed: no_key');
      t.equal(fleet.probes(1, 3).length, 0, 'nothing is sent there');
      t.ok(fleet.probes(1, 2).length > 190);
    },
    { keys: (_, peer) => (peer === 3 ? undefined : keyOf(7)) },
  );

  test('what nobody can have meant counts for nothing', 3, (t, fleet) => {
    fleet.advance(3000);
    const recorded = fleet.probes(2, 1);
    const [first] = recorded;
    const latest = recorded.at(-1)!;
    const before = fleet.drops(1);
    const reasons = (inject: () => void): Partial<Record<string, number>> => {
      const was = fleet.drops(1);
      inject();
      return Object.fromEntries(
        Object.entries(fleet.drops(1))
          .map(([reason, count]) => [reason, count! - (was[reason] ?? 0)])
          .filter(([, count]) => count !== 0),
      );
    };
    const send = (source: string, payload: Uint8Array): void =>
      fleet.dp(1).injectDatagram(TUNNEL, { ...latest, source: parseIp(source), payload });
    const changed = (payload: Uint8Array, at: number): Uint8Array =>
      payload.map((byte, i) => (i === at ? byte ^ 1 : byte));
    const seq = 8 + 14 + 7;
    const session = 8 + 14 + 15;

    t.same(before, {});
    t.same(
      reasons(() => send(addressOf(2), latest.payload)),
      { probe_replayed: 1 },
    );
    t.same(
      reasons(() => send(addressOf(2), first!.payload)),
      { probe_replayed: 1 },
      'an older one',
    );
    t.same(
      reasons(() => send(addressOf(9), latest.payload)),
      { probe_unknown_peer: 1 },
    );
    t.same(
      reasons(() => send(addressOf(3), latest.payload)),
      { probe_unauthentic: 1 },
      'another sender',
    );
    const reflected = fleet.probes(1, 2).at(-1)!.payload;
    t.same(
      reasons(() => send(addressOf(2), reflected)),
      { probe_unauthentic: 1 },
      'a reflection',
    );
    for (const at of [seq - 1, session, latest.payload.length - 1]) {
      t.same(
        reasons(() => send(addressOf(2), changed(latest.payload, at))),
        at === latest.payload.length - 1 ? { probe_replayed: 1 } : { probe_unauthentic: 1 },
        `byte ${at} changed`,
      );
    }
    for (const length of [8 + 14, 8 + 14 + 99, latest.payload.length - 1]) {
      t.same(
        reasons(() => send(addressOf(2), latest.payload.slice(0, length))),
        { probe_malformed: 1 },
      );
    }
    t.same(
      reasons(() => send(addressOf(2), Uint8Array.of(...latest.payload, 0))),
      { probe_malformed: 1 },
    );
    t.same(
      reasons(() => send(addressOf(2), changed(latest.payload, 8 + 14))),
      { probe_malformed: 1 },
      'another version',
    );
    const { frame } = parseVxlan(latest.payload)!;
    t.same(
      reasons(() =>
        send(addressOf(2), buildVxlan({ vni: PROBE_VNI, frame: frame.map((_, i) => (i === 13 ? 0 : frame[i]!)) })),
      ),
      { probe_malformed: 1 },
    );

    const forged = changed(latest.payload, session);
    t.same(
      reasons(() => Array.from({ length: 100 }, () => send(addressOf(2), forged))).probe_limit! > 75,
      true,
      'few are checked',
    );
    const strangers = fleet.dp(1).liveness.strangers();
    t.match(
      strangers.map(({ reason }) => reason),
      ['probe_unknown_peer', 'probe_unauthentic', 'probe_unauthentic'],
    );
    t.equal(
      fleet.probes(1, 2).length + fleet.probes(1, 3).length,
      fleet.sent.filter(({ sourcePort }) => sourcePort).length -
        fleet.probes(2, 1).length -
        fleet.probes(3, 1).length -
        fleet.probes(2, 3).length -
        fleet.probes(3, 2).length,
      'nothing was answered',
    );
    fleet.advance(2000);
    t.equal(fleet.state(1, 2), 'up', 'forged probes have not kept out the real ones');
    for (let i = 0; i < 200; i++) {
      send(addressOf(8 + i), latest.payload);
    }
    t.ok(fleet.dp(1).liveness.strangers().length <= 16, 'strangers take bounded memory');
  });

  test('recorded probes keep nobody alive', 2, (t, fleet) => {
    fleet.advance(3000);
    const recorded = fleet.probes(2, 1);
    fleet.carries = () => false;
    for (let i = 0; i < 100; i++) {
      fleet.dp(1).injectDatagram(TUNNEL, recorded[i % recorded.length]!);
      fleet.advance(50);
    }
    t.equal(fleet.state(1, 2), 'down: silent');
  });

  test('a host that was started again is known at once, and its former self counts for nothing', 2, (t, fleet) => {
    fleet.advance(3000);
    const former = fleet.probes(2, 1);
    const changes = fleet.changes(1);
    fleet.start(2, 77);
    fleet.know(2);
    fleet.advance(WINDOW_MS - 10);
    t.equal(fleet.state(1, 2), 'up');
    t.equal(fleet.state(2, 1), 'up');
    t.equal(fleet.changes(1), changes, 'host 1 has not noticed it');
    const { heardMs } = fleet.peer(1, 2);
    for (const datagram of former) fleet.dp(1).injectDatagram(TUNNEL, datagram);
    t.equal(fleet.peer(1, 2).heardMs! >= heardMs!, true);
    fleet.advance(5 * INTERVAL_MS);
    t.equal(fleet.state(1, 2), 'up');
    t.same(fleet.peer(1, 2).hasTwin, false);
  });

  test('both have been started again after an outage, and recordings of before prove nothing', 2, (t, fleet) => {
    fleet.advance(3000);
    const former = fleet.probes(2, 1);
    fleet.carries = () => false;
    fleet.start(1, 55);
    fleet.know(1);
    for (const datagram of former) fleet.dp(1).injectDatagram(TUNNEL, datagram);
    fleet.advance(3000);
    t.equal(fleet.state(1, 2), 'unprobed: silent');
  });

  test('own slowness makes no peer down', 2, (t, fleet) => {
    fleet.advance(3000);
    const changes = fleet.changes(1);
    for (const pause of [WINDOW_MS, 5000, 60_000]) {
      fleet.jump(pause);
      t.equal(fleet.state(1, 2), 'up', `after ${pause} ms`);
    }
    t.equal(fleet.changes(1), changes);
  });

  test('a host that was slow says so, and its peers are more patient for a while', 2, (t, fleet) => {
    const stall = (milliseconds: number): void => {
      fleet.stalls = (host) => host === addressOf(2);
      fleet.advance(milliseconds);
      fleet.stalls = () => false;
    };
    const WHILE_MS = 100 * INTERVAL_MS;
    fleet.advance(3000);
    stall(2 * INTERVAL_MS + 5);
    t.equal(fleet.state(1, 2), 'up');
    for (let elapsedMs = 0; elapsedMs < WHILE_MS; elapsedMs += WHILE_MS / 4) {
      fleet.advance(WHILE_MS / 4);
      stall(WINDOW_MS);
      t.equal(fleet.state(1, 2), 'up', 'longer than the window by no more than it was late');
    }
    fleet.advance(3000);
    stall(20 * INTERVAL_MS);
    t.equal(fleet.state(1, 2), 'down: silent', 'even then its death is known at some time');
    fleet.advance(3000);
    t.equal(fleet.state(1, 2), 'up');
    stall(2 * WINDOW_MS - INTERVAL_MS);
    t.equal(fleet.state(1, 2), 'up', 'a window becomes twice as long');
    fleet.advance(3000);
    stall(2 * WINDOW_MS);
    t.equal(fleet.state(1, 2), 'down: silent', 'and not longer');
    fleet.advance(WHILE_MS + 3000);
    t.equal(fleet.state(1, 2), 'up');
    stall(WINDOW_MS);
    t.equal(fleet.state(1, 2), 'down: silent', 'what was long ago is forgotten');
  });

  test('who loses most peers at once suspects itself', 4, (t, fleet) => {
    fleet.advance(3000);
    fleet.carries = (from, to) => from !== addressOf(1) && to !== addressOf(1);
    fleet.advance(KNOWN_MS + 10);
    t.same(
      [2, 3, 4].map((peer) => fleet.state(1, peer)),
      ['suspect: silent', 'suspect: silent', 'suspect: silent'],
    );
    t.same(
      [2, 3, 4].map((host) => fleet.state(host, 1)),
      ['down: silent', 'down: silent', 'down: silent'],
    );
    t.equal(fleet.state(2, 3), 'up');
    // Two of them come back, so the third is what is gone.
    fleet.carries = (from, to) => from !== addressOf(4) && to !== addressOf(4);
    fleet.advance(2 * INTERVAL_MS);
    t.same(
      [2, 3, 4].map((peer) => fleet.state(1, peer)),
      ['up', 'up', 'down: silent'],
    );
    fleet.carries = () => true;
    fleet.advance(INTERVAL_MS + 10);
    t.equal(fleet.state(1, 4), 'up');
  });

  test('peers that die one after the other are down', 4, (t, fleet) => {
    fleet.advance(3000);
    for (const dead of [4, 3, 2]) {
      fleet.carries = (from, to) => Math.max(Number(from.slice(8)), Number(to.slice(8))) < dead;
      fleet.advance(5 * WINDOW_MS);
      t.equal(fleet.state(1, dead), 'down: silent', `host ${dead}`);
    }
  });

  test(
    'hosts with different keys do not hear each other',
    2,
    (t, fleet) => {
      fleet.advance(3000);
      t.equal(fleet.state(1, 2), 'unprobed: silent');
      t.match(fleet.dp(1).liveness.strangers(), [{ address: parseIp(addressOf(2)), reason: 'probe_unauthentic' }]);
    },
    { keys: (host) => keyOf(host) },
  );

  test('a peer that is removed and added again goes on', 2, (t, fleet) => {
    fleet.advance(3000);
    fleet.know(1, []);
    t.same(fleet.dp(1).liveness.peers(), []);
    fleet.advance(2000);
    t.equal(fleet.state(2, 1), 'down: silent', 'host 1 sends nothing any more');
    fleet.know(1);
    fleet.advance(INTERVAL_MS + 10);
    t.equal(fleet.state(1, 2), 'up');
    t.equal(fleet.state(2, 1), 'up');
  });

  test('two hosts with one address are noticed', 2, (t, fleet) => {
    fleet.advance(3000);
    fleet.startTwin(2, 99);
    fleet.advance(10 * INTERVAL_MS);
    t.equal(fleet.peer(1, 2).hasTwin, true, 'only one of them hears, and both send');
    t.equal(fleet.state(1, 2), 'up');
    for (let i = 0; i < 10; i++) {
      fleet.reachesTwin = () => i % 2 === 0;
      fleet.advance(1000);
    }
    t.equal(fleet.peer(1, 2).hasTwin, true, 'now the one hears, now the other');
  });

  test('a tunnel that is closed and opened again', 2, (t, fleet) => {
    fleet.advance(3000);
    fleet.dp(1).portDel(TUNNEL);
    t.equal(fleet.state(1, 2), 'unprobed: silent');
    t.equal(fleet.dp(1).liveness.run(), undefined);
    fleet.start(1, 3);
    fleet.know(1);
    fleet.advance(INTERVAL_MS + 10);
    t.equal(fleet.state(1, 2), 'up');
  });

  test(
    'more networks than a probe can list',
    2,
    (t, fleet) => {
      fleet.advance(100);
      t.equal(fleet.peer(1, 2).vnis, undefined);
      t.equal(fleet.peer(2, 1).vnis!.length, 128);
    },
    { vnis: (host) => Array.from({ length: host === 1 ? 128 : 129 }, (_, i) => 1000 + i) },
  );
}
