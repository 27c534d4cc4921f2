/**
 * Turns the decision to open a connection through a service into one for all others like it: those of the same client to the
 * same port of the service. Each gets a backend by its hash, which the datapath knows from a balancing table
 * (flow/balancing.ts). So only the source port tells them apart, and the cached flow does not contain it.
 *
 * The key of such a flow has source port 0. So when it is decided again, no connection that happens to be open gets into the
 * way.
 */
import type { Action } from '../flow/action.ts';
import type { ConnectionTuples } from '../flow/connection.ts';
import { ctState, fields } from '../flow/fields.ts';
import { readBytes, readNumber, writeNumber, type FlowKey, type FlowMask } from '../flow/key.ts';
import { sameBytes, type PortNo } from '../flow/types.ts';
import { choiceText } from '../pipeline/choice-text.ts';
import type { Decision } from '../pipeline/decide.ts';
import type { Tables } from '../pipeline/stage.ts';
import { text, type Text } from '../pipeline/text.ts';
import { choiceOf } from '../table/openings.ts';

/** What the stages behind say of all of them, by name. */
const ofAny = {
  'egress policy': text`allows all backends that it may get`,
  route: text`the way of others to its backend`,
  bridge: text`to where its backend is`,
  'ingress policy': text`allows it to all of them that are here`,
  open: text`the datapath opens the connection`,
};

/** Undefined if the datapath has to ask about each connection. */
export function balancedDecision(decision: Decision): Decision | undefined {
  const choice = decision.opening && choiceOf(decision.opening);
  const action = choice && decision.balance?.();
  if (!action) return undefined;
  const service = text`service ${choice.selection.service.id}: each connection gets a backend, ${choiceText(choice)}`;
  const said: Readonly<Record<string, Text>> = { service, ...ofAny };
  return {
    ...decision,
    actions: [action],
    mask: withoutSourcePort(decision.mask),
    stages: decision.stages.map((record) => ({ ...record, because: said[record.stage] ?? record.because })),
    ...{ verdict: 'forward', opening: undefined, opened: undefined, balance: undefined, cacheable: true },
  };
}

/** The same key with the source port that stands for all; undefined if it has a connection already. */
export function ofAnyPort(key: FlowKey): FlowKey | undefined {
  if (readNumber(key, fields.ct_state) !== ctState.none) return undefined;
  const any = key.slice();
  writeNumber(any, fields.l4_src, 0);
  return any;
}

/** What the datapath may open by such a flow: a connection to each backend that it may choose, from any source port. */
export function connectionsBy(
  key: FlowKey,
  { table }: Extract<Action, { op: 'balance' }>,
  { topology, services }: Pick<Tables, 'topology' | 'services'>,
): readonly ConnectionTuples[] {
  const vni = topology.port(readNumber(key, fields.in_port) as PortNo)?.vni;
  const chosen = vni === undefined ? undefined : services.chosenBy(table, vni);
  if (vni === undefined || !chosen) return [];
  const source = readBytes(key, fields.ip_src).slice();
  const original = {
    ...{ source, sourcePort: readNumber(key, fields.l4_src) },
    ...{ destination: readBytes(key, fields.ip_dst).slice(), destinationPort: readNumber(key, fields.l4_dst) },
  };
  const offset = original.destinationPort - chosen.firstPort;
  return chosen.backends.flatMap(({ address, target, replies }) => {
    // It asks about those of which nobody knows where they are, and about a client that is the backend itself.
    if (replies === undefined || sameBytes(address, source)) return [];
    const translated = { ...original, destination: address, destinationPort: target + offset };
    return {
      ...{ kind: 'translated', places: [vni, replies], protocol: readNumber(key, fields.ip_proto) },
      ...{ original, translated },
    } as const;
  });
}

/** There are few masks, and each is one object (`maskOf`). */
const narrowed = new Map<FlowMask, FlowMask>();

function withoutSourcePort(mask: FlowMask): FlowMask {
  const known = narrowed.get(mask);
  if (known) return known;
  const without = mask.slice();
  without.fill(0, fields.l4_src.offset, fields.l4_src.offset + fields.l4_src.size);
  narrowed.set(mask, without);
  return without;
}
