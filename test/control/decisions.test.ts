/** Decisions share equal parts, and still say the same. */
import t from 'tap';
import { Decisions } from '../../src/control/decisions.ts';
import type { FieldName } from '../../src/flow/fields.ts';
import { maskOf } from '../../src/flow/key.ts';
import type { PortNo, Vni } from '../../src/flow/types.ts';
import { text } from '../../src/pipeline/text.ts';
import type { Decision } from '../../src/pipeline/decide.ts';

/** Equal lists of fields are one object. */
const nothing: readonly FieldName[] = [];
const ingress = (port: number) => text`from port ${port}`;
const route = (slot: number) => text`connection ${slot}`;

/** Like one for a flow to the outside: new objects each time. */
function decision(port: number, slot: number): Decision {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  return {
    actions: [
      { op: 'nat', slot, generation: 2, reply: false },
      { op: 'route', source: mac.slice(), destination: mac.slice() },
      { op: 'output', port: 2 as PortNo },
    ],
    mask: maskOf(7),
    consulted: [`port/${port}`, `connection/${slot}`],
    effects: [{ kind: 'learn', vni: 100 as Vni, mac: mac.slice(), where: { kind: 'port', port: port as PortNo } }],
    judged: [],
    stages: [
      { stage: 'ingress', read: nothing, because: ingress(port) },
      { stage: 'route', read: nothing, because: route(slot) },
    ],
    verdict: 'forward',
    reason: undefined,
    neighbor: undefined,
    opening: undefined,
    opened: undefined,
    balance: undefined,
    connection: undefined,
    cacheable: true,
  };
}

t.test('equal decisions are one', (t) => {
  const decisions = new Decisions();
  const first = decisions.intern(decision(3, 1));
  t.equal(decisions.intern(decision(3, 1)), first);
  t.same(first, decision(3, 1));
  t.end();
});

t.test('of decisions for one kind of flow, what is the same is kept once, and nothing else is changed', (t) => {
  const decisions = new Decisions();
  const first = decisions.intern(decision(3, 1));
  for (let slot = 2; slot < 100; slot++) {
    decisions.intern(decision(4, slot));
    const next = decisions.intern(decision(3, slot));
    t.same(next, decision(3, slot));
    t.not(next.actions[0], first.actions[0]);
    for (const n of [1, 2]) t.equal(next.actions[n], first.actions[n]);
    t.equal(next.stages[0], first.stages[0]);
    t.not(next.stages[1], first.stages[1]);
    t.equal(next.effects, first.effects);
  }
  t.end();
});

t.test('lists of other lengths are not taken for each other', (t) => {
  const decisions = new Decisions();
  decisions.intern(decision(3, 1));
  const [nat, , output] = decision(3, 2).actions;
  const shorter: Decision = { ...decision(3, 2), actions: [nat!, output!], effects: [] };
  t.same(decisions.intern(shorter), { ...decision(3, 2), actions: [nat!, output!], effects: [] });
  t.same(decisions.intern(decision(3, 3)), decision(3, 3));
  t.end();
});
