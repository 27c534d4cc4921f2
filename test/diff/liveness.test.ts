/** Both datapaths judge their peers alike, and send the same probes at the same times, whatever the underlay does. */
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { addressOf, datagramId, Fleet } from '../conformance/fleet.ts';
import type { Open } from '../conformance/harness.ts';
import { Random } from '../support/random.ts';

const HOSTS = 5;
const STEPS = 120;

interface Account {
  readonly sent: readonly string[];
  readonly states: readonly string[];
  readonly drops: readonly unknown[];
}

function run(open: Open, seed: number): Account {
  const random = new Random(seed);
  const fleet = new Fleet(open, HOSTS);
  const states: string[] = [];
  try {
    for (let step = 0; step < STEPS; step++) {
      const cut = new Set(
        Array.from({ length: random.int(6) }, () => `${1 + random.int(HOSTS)} ${1 + random.int(HOSTS)}`),
      );
      const dark = random.int(3) === 0 ? 1 + random.int(HOSTS) : 0;
      const loss = random.int(4) === 0 ? 0.3 : 0;
      fleet.carries = (from, to) =>
        !cut.has(`${from.slice(8)} ${to.slice(8)}`) &&
        ![from, to].includes(addressOf(dark)) &&
        (loss === 0 || random.int(100) >= 100 * loss);
      fleet.delayMs = random.int(3) === 0 ? random.int(400) : random.int(5);
      if (random.int(8) === 0) {
        const host = 1 + random.int(HOSTS);
        fleet.start(host, 10 + step);
        fleet.know(host);
      }
      if (random.int(10) === 0 && fleet.sent.length > 0) {
        const old = fleet.sent[random.int(fleet.sent.length)]!;
        fleet.dp(1 + random.int(HOSTS)).injectDatagram(1 as never, old);
      }
      if (random.int(10) === 0) fleet.jump(random.int(3000));
      const slow = random.int(5) === 0 ? 1 + random.int(HOSTS) : 0;
      fleet.stalls = (host) => host === addressOf(slow);
      fleet.advance(random.int(1500));
      for (let host = 1; host <= HOSTS; host++) states.push(JSON.stringify(fleet.dp(host).liveness.peers()));
    }
    const drops = Array.from({ length: HOSTS }, (_, i) => fleet.drops(i + 1));
    return { sent: fleet.sent.map(datagramId), states, drops };
  } finally {
    fleet.close();
  }
}

t.test('the same for random outages', async (t) => {
  const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);
  t.comment(`WEFT_SEED=${seed}`);
  const reference = run(openReferenceDatapath, seed);
  const native = run((options) => openNativeDatapath({ ...options, threads: 0 }), seed);
  t.equal(native.sent.length, reference.sent.length);
  t.equal(
    native.sent.findIndex((one, i) => one !== reference.sent[i]),
    -1,
    'all probes are the same',
  );
  const at = native.states.findIndex((one, i) => one !== reference.states[i]);
  t.equal(native.states[at], reference.states[at], 'so is what each host thinks');
  t.same(native.drops, reference.drops);
  const all = reference.states.join();
  for (const seen of ['"up"', '"down"', '"suspect"', '"unprobed"', '"unheard"', '"silent"']) t.match(all, seen);
});
