/**
 * Sends 250,000 random frames, many in bursts and superframes, through the native and the reference datapath, and shows
 * that the test would notice a fault: planted faults are found and reduced to few steps.
 * `npm run test:diff -- --frames N --seed S` runs longer tests.
 */
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import type { Open } from '../conformance/harness.ts';
import { Difference, runDifferential } from './differential.ts';
import { RandomDecider } from './random-decider.ts';
import { wanted } from './reached.ts';

const decider = (context: ConstructorParameters<typeof RandomDecider>[0]) => new RandomDecider(context);
const seed = Number(process.env['WEFT_SEED'] ?? process.hrtime.bigint() % 0x7fffffffn);

t.setTimeout(600_000);

t.test(`native and reference do the same (WEFT_SEED=${seed})`, async (t) => {
  const native: Open = (options) => openNativeDatapath({ ...options, threads: 0 });
  const result = runDifferential({ left: native, right: openReferenceDatapath, decider, seed, frames: 250_000 });
  t.ok(result.frames >= 250_000);
  t.ok(result.upcalls > 10_000, `${result.upcalls} upcalls`);
  t.ok(result.hits > 10_000, `${result.hits} hits`);
  t.ok(result.segments > 5000, `${result.segments} segments`);
  t.ok(result.coalesced > 5000, `${result.coalesced} coalesced`);
  for (const [what, count] of wanted('random', result)) t.ok(count, `${what}: ${count}`);
});

t.test('a difference is found and made small', async (t) => {
  const faults: [string, Open][] = [
    [
      'a frame that is changed',
      (options) => {
        const dp = openReferenceDatapath(options);
        let count = 0;
        const inject: typeof dp.inject = (port, frame) => {
          // Only frames that are UDP to port 53, and only after the first 50.
          const isDns = frame.length > 40 && frame[12] === 8 && frame[23] === 17 && frame[37] === 53;
          if (++count > 50 && isDns) frame = Uint8Array.from(frame, (byte, at) => (at === 22 ? byte ^ 1 : byte));
          dp.inject(port, frame);
        };
        return Object.assign(Object.create(dp) as typeof dp, bound(dp), { inject });
      },
    ],
    [
      'a burst that is not coalesced',
      (options) => {
        const dp = openReferenceDatapath(options);
        const injectBurst: typeof dp.injectBurst = (port, burst) => {
          for (const one of burst) dp.injectBurst(port, [one]);
        };
        return Object.assign(Object.create(dp) as typeof dp, bound(dp), { injectBurst });
      },
    ],
    [
      'a superframe with another segment size',
      (options) => {
        const dp = openReferenceDatapath(options);
        const injectBurst: typeof dp.injectBurst = (port, burst) => {
          const changed = burst.map(({ frame, offload }) => {
            if (!offload || offload.gsoSize < 100) return { frame, offload };
            return { frame, offload: { ...offload, gsoSize: offload.gsoSize - 1 } };
          });
          dp.injectBurst(port, changed);
        };
        return Object.assign(Object.create(dp) as typeof dp, bound(dp), { injectBurst });
      },
    ],
    [
      'a flow that is not deleted',
      (options) => {
        const dp = openReferenceDatapath(options);
        return Object.assign(Object.create(dp) as typeof dp, bound(dp), { flowDel: () => {} });
      },
    ],
  ];
  for (const [name, faulty] of faults) {
    try {
      runDifferential({ left: openReferenceDatapath, right: faulty, decider, seed, frames: 30_000 });
      t.fail(`${name} was not found`);
    } catch (error) {
      if (!(error instanceof Difference)) throw error;
      t.match(error.message, `seed ${seed}`);
      t.ok(error.steps.length <= 200, `${name}: ${error.steps.length} steps are left`);
    }
  }
});

/** The methods of a datapath as own properties, so that single ones can be replaced. */
function bound(dp: ReturnType<Open>): ReturnType<Open> {
  return {
    connections: dp.connections,
    liveness: dp.liveness,
    portsAdd: dp.portsAdd.bind(dp),
    portSet: dp.portSet.bind(dp),
    portPlace: dp.portPlace.bind(dp),
    portDel: dp.portDel.bind(dp),
    flowPut: dp.flowPut.bind(dp),
    flowDel: dp.flowDel.bind(dp),
    flowGet: dp.flowGet.bind(dp),
    flowDump: dp.flowDump.bind(dp),
    execute: dp.execute.bind(dp),
    mirror: dp.mirror.bind(dp),
    counters: dp.counters.bind(dp),
    close: dp.close.bind(dp),
    inject: dp.inject.bind(dp),
    injectBurst: dp.injectBurst.bind(dp),
    injectDatagram: dp.injectDatagram.bind(dp),
    injectDatagrams: dp.injectDatagrams.bind(dp),
  };
}
