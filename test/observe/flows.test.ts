/** Reports of many cached flows delay nothing else, and a question about one flow reads only that one. */
import t from 'tap';
import type { Endpoints } from '../../src/cluster/endpoints.ts';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { fields, KEY_BYTES } from '../../src/flow/fields.ts';
import { emptyKey, writeNumber } from '../../src/flow/key.ts';
import type { FlowId, PortNo } from '../../src/flow/types.ts';
import { Observer, TURN_FLOWS } from '../../src/observe/observer.ts';
import { createSimulation, type SimulationOptions } from '../../src/simulation.ts';

const exact = new Uint8Array(KEY_BYTES).fill(0xff);

/** A switch with `count` cached flows, whose ids are 1 to `count`. */
function observed(open: SimulationOptions['open'], count: number) {
  const net = createSimulation(open && { open });
  const { forwarding } = net.host('a', '192.0.2.1');
  const { flows } = forwarding.controller;
  const decision = { ...forwarding.controller.decide(emptyKey()), mask: exact };
  const put = (n: number) => {
    const key = emptyKey();
    writeNumber(key, fields.in_port, 7);
    writeNumber(key, fields.l4_src, n % 65_536);
    writeNumber(key, fields.l4_dst, Math.floor(n / 65_536));
    return flows.put(key, decision, 0)!;
  };
  for (let n = 0; n < count; n++) put(n);
  const observer = new Observer({
    isHostDown: () => false,
    isShared: false,
    forwarding,
    endpoints: { portName: () => undefined } as unknown as Endpoints,
    underlayPort: 1 as PortNo,
    clock: () => 5000,
    wallClock: () => 1_700_000_000_000,
    after: () => () => {},
    application: 'test',
  });
  return { net, forwarding, flows, observer, put };
}

const datapaths: readonly (readonly [string, SimulationOptions['open']])[] = [
  ['reference', openReferenceDatapath],
  ['native', (options) => openNativeDatapath({ ...options, threads: 0 })],
];

for (const [name, open] of datapaths) {
  t.test(`${name}: all of them are listed once, and other work gets its turns`, async (t) => {
    const count = TURN_FLOWS * 20;
    const { net, observer } = observed(open, count);
    let turns = 0;
    let isDone = false;
    const turn = (): void => {
      turns++;
      if (!isDone) setImmediate(turn);
    };
    setImmediate(turn);
    const ids = new Set<number>();
    for await (const { id, idleMs } of observer.flows()) {
      ids.add(id);
      if (idleMs !== 5000) t.fail(`flow ${id} is idle for ${idleMs} ms`);
    }
    isDone = true;
    t.equal(ids.size, count);
    t.ok(turns >= 19, `${turns} turns of other work while ${count} flows were listed`);
    net.close();
  });

  t.test(`${name}: flows that come and go while they are listed`, async (t) => {
    const count = TURN_FLOWS * 8;
    const { net, observer, flows, put } = observed(open, count);
    const seen: number[] = [];
    for await (const { id } of observer.flows()) {
      seen.push(id);
      if (seen.length % TURN_FLOWS !== 0) continue;
      flows.delete(id as FlowId);
      put(count + seen.length);
    }
    t.equal(new Set(seen).size, seen.length, 'none comes twice');
    const stayed = Array.from({ length: count }, (_, i) => i + 1).filter((id) => flows.get(id as FlowId));
    const isSeen = new Set(seen);
    t.same(
      stayed.filter((id) => !isSeen.has(id)),
      [],
      'each that stayed comes',
    );
    net.close();
  });

  t.test(`${name}: the question why about one flow reads no other`, async (t) => {
    const { net, observer, flows, forwarding } = observed(open, 100);
    forwarding.datapath.flowDump = () => {
      throw new Error('all flows were read');
    };
    t.match(observer.why('42'), { id: '42', packets: 0, bytes: 0, idleMs: 5000, decision: { verdict: 'drop' } });
    t.throws(() => observer.why('4200'), { code: 'not_found' });
    flows.withdraw(42 as FlowId);
    t.throws(() => observer.why('42'), { code: 'not_found' }, 'it decides nothing at present');
    net.close();
  });
}
