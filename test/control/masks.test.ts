/** Which mask gives way when there is no room for another one, whatever the senders do; the same on both datapaths. */
import t from 'tap';
import { DROP_MASKS, Masks, type MaskUse } from '../../src/control/masks.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { MASK_CAP } from '../../src/flow/bounds.ts';
import { fields } from '../../src/flow/fields.ts';
import { emptyKey, maskOf, writeNumber, type FlowMask } from '../../src/flow/key.ts';
import { createSimulation, type SimulationOptions } from '../../src/simulation.ts';
import { udp } from '../support/frames.ts';

/** A different mask for each number. */
const mask = (number: number): FlowMask => maskOf(1 | (number << 1));
const key = emptyKey();

/** Masks with these ports: `[from, to, ports, frames]` each. */
function filled(...groups: readonly (readonly [number, number, readonly number[], number])[]) {
  const masks = new Masks();
  const uses = new Map<FlowMask, MaskUse>();
  for (const [from, to, ports, frames] of groups) {
    for (let number = from; number < to; number++) {
      for (const port of ports) uses.set(mask(number), masks.add(mask(number), port));
      uses.get(mask(number))!.frames = frames;
    }
  }
  const want = (number: number, port: number, times: number): void => {
    for (let i = 0; i < times; i++) masks.refuse(mask(number), port, key);
  };
  /** Removes all flows of the mask that gives way, and gives the place to the other one. */
  const end = (port: number): readonly [FlowMask, FlowMask] | undefined => {
    const change = masks.endWindow();
    if (!change) return undefined;
    const leaving = uses.get(change.leaving)!;
    for (const [of, flows] of [...leaving.flowsOf]) for (let i = 0; i < flows; i++) masks.remove(leaving, of);
    uses.delete(change.leaving);
    uses.set(change.mask, masks.add(change.mask, port));
    return [change.leaving, change.mask];
  };
  return { masks, uses, want, end };
}

t.test('the port that uses most masks gives up the least used one that is its alone', async (t) => {
  const { masks, uses, want, end } = filled(
    [0, 10, [1, 2, 3], 0],
    [10, 15, [2], 5],
    [15, 60, [1], 1_000_000],
    [60, MASK_CAP, [1], 900_000],
  );
  t.equal(masks.endWindow(), undefined, 'nobody needs a place');
  uses.get(mask(62))!.frames = 700_000;
  want(100, 3, 1);
  t.equal(end(3), undefined, 'a single frame does not need a place');
  want(100, 3, 2);
  t.same(end(3), [mask(62), mask(100)]);
  t.match(masks.statistics, { evicted: 1 });
  t.equal(end(3), undefined, 'and nobody needs another one');
});

t.test('who varies what is read pushes out masks of its own, and those not in turns', async (t) => {
  const { masks, uses, want, end } = filled([0, 10, [1, 2], 0], [10, 15, [2], 3], [15, MASK_CAP, [1], 100]);
  want(100, 1, 150);
  t.equal(end(1), undefined, 'asked for less than twice as often as the least used one was hit');
  const others = Array.from({ length: 15 }, (_, number) => mask(number));
  for (let number = 101; number < 1101; number++) {
    want(number, 1, 1000);
    end(1);
    for (const use of uses.values()) if (use.flowsOf.has(1)) use.frames = 100;
  }
  t.ok(
    others.every((one) => uses.has(one)),
    'nobody else has lost one',
  );
  const { evicted } = masks.statistics;
  t.equal(evicted, 1000, 'though it has changed one in every window');
  want(2000, 2, 2);
  want(2001, 1, 1_000_000);
  t.same(end(2)?.[1], mask(2000), 'and who has few gets a place before it does');
  t.equal(masks.statistics.evicted, evicted + 1, 'one in a window');
});

t.test('one more mask than there are places for, all used alike: none gives way', async (t) => {
  const { uses, want, end } = filled([0, MASK_CAP, [1], 0]);
  for (let window = 0; window < 1000; window++) {
    for (const use of uses.values()) use.frames += 10;
    want(100, 1, 10);
    if (end(1)) t.fail(`window ${window}`);
  }
  let change: readonly [FlowMask, FlowMask] | undefined;
  for (let window = 0; window < 50 && !change; window++) {
    for (const use of uses.values()) if (use.mask !== mask(7)) use.frames += 10;
    want(100, 1, 10);
    change = end(1);
  }
  t.same(change, [mask(7), mask(100)], 'until one is not used any more');
});

t.test('flows that drop get half of the masks and push none out; a mask that leaves gets no more flows', async (t) => {
  const { masks, want } = filled([0, DROP_MASKS, [1], 0]);
  t.ok(masks.admits(mask(3), true));
  t.notOk(masks.admits(mask(99), true));
  t.ok(masks.admits(mask(99), false));
  t.match(masks.statistics, { refusedDrops: 1 });
  for (let number = DROP_MASKS; number < MASK_CAP; number++) masks.add(mask(number), 1);
  want(99, 2, 2);
  const { leaving } = masks.endWindow()!;
  t.notOk(masks.admits(leaving, false));
  want(98, 3, 2);
  t.equal(masks.endWindow(), undefined, 'one at a time');
  t.match(masks.statistics, { evicted: 1, refusedLeaving: 1 });
});

const datapaths: readonly (readonly [string, SimulationOptions['open']])[] = [
  ['reference', openReferenceDatapath],
  ['native', (options) => openNativeDatapath({ ...options, threads: 0 })],
];
const [macWeb, macDb] = ['02:00:00:00:00:01', '02:00:00:00:00:02'];

/** A switch on which a port that floods has taken all masks, each with this many flows. */
function flooded(open: SimulationOptions['open'], flowsEach: number) {
  const net = createSimulation(open && { open });
  const host = net.host('a', '192.0.2.1');
  host.createNetwork('blue', 100);
  const web = host.attach({ name: 'web', network: 'blue', mac: macWeb, addresses: ['10.0.0.1'] });
  const db = host.attach({ name: 'db', network: 'blue', mac: macDb, addresses: ['10.0.0.2'] });
  const { controller, datapath } = host.forwarding;
  // Nobody would decide these flows like this, so they are not held against what would be decided.
  controller.audit.tick = () => {};
  const decision = controller.decide(emptyKey());
  for (let number = 0; number < MASK_CAP; number++) {
    for (let flow = 0; flow < flowsEach; flow++) {
      const of = emptyKey();
      writeNumber(of, fields.in_port, 99);
      writeNumber(of, fields.nd_lla, flow);
      const used = maskOf(1 | (1 << fields.nd_lla.number) | (number << 1));
      // To the cache, these flows forward.
      const made = {
        ...decision,
        reason: undefined,
        mask: used,
        actions: [{ op: 'output', port: web.portNo } as const],
      };
      controller.flows.put(of, made, 0);
    }
  }
  const send = (): void => web.send(udp({ srcMac: macWeb, dstMac: macDb, src: '10.0.0.1', dst: '10.0.0.2' }, 1000, 53));
  return { net, web, db, controller, datapath, send };
}

for (const [name, open] of datapaths) {
  t.test(`${name}: a flow without a mask is decided frame by frame, until a mask gives way for it`, async (t) => {
    const { net, db, controller, datapath, send } = flooded(open, 3);
    t.match(datapath.counters(), { masks: MASK_CAP, flows: 3 * MASK_CAP, refused: { masks: 0 } });
    for (let i = 0; i < 5; i++) send();
    t.equal(db.received.length, 5, 'every frame comes through');
    t.match(datapath.counters(), { upcalls: 5, masks: MASK_CAP, refused: { masks: 5 } });
    net.advance(1000);
    t.match(controller.flows.masks, { evicted: 1 });
    t.match(datapath.counters(), { masks: MASK_CAP, flows: 3 * MASK_CAP - 3 + 1 });
    t.equal(controller.flows.size, 3 * MASK_CAP - 2, 'the switch knows of no flow that the datapath does not have');
    for (let i = 0; i < 5; i++) send();
    t.equal(db.received.length, 10);
    t.match(datapath.counters(), { upcalls: 5, refused: { masks: 5 } });
    net.close();
  });
}

t.test('both datapaths have the same masks give way', async (t) => {
  const ids = datapaths.map(([, open]) => {
    const { net, datapath, send } = flooded(open, 2);
    for (let i = 0; i < 3; i++) send();
    net.advance(1000);
    const left = [...datapath.flowDump()].map(({ id }) => id).sort((a, b) => a - b);
    net.close();
    return left;
  });
  t.same(ids[0], ids[1]);
});
