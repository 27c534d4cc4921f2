/**
 * Turns decisions about packets of connections into flows of connections.
 *
 * The decision for a packet of a translated connection is mostly the same for many connections: they
 * come in by the same port, with the same MAC addresses, and leave the same way. Only the tuple tells
 * them apart, and the datapath finds the connection by exactly that. So the cached flow contains
 * neither the tuple nor anything else of one particular connection, and each connection refers to the
 * flow by its id.
 */
import { NAT_BY_TUPLE, type Action } from '../flow/action.ts';
import { protocolName } from '../flow/connection.ts';
import { fields, type FieldName } from '../flow/fields.ts';
import { readNumber, type FlowKey, type FlowMask } from '../flow/key.ts';
import type { ConnectionUse } from '../pipeline/stage.ts';
import type { Decision } from '../pipeline/decide.ts';
import { text, withPart } from '../pipeline/text.ts';

const addresses: readonly FieldName[] = ['ip_src', 'ip_dst', 'ip_proto'];
/** The fields of a key that the tuple covers, for protocols with ports and for those with identifiers. */
const tupleFields = {
  ports: [...addresses, 'l4_src', 'l4_dst'],
  identifier: [...addresses, 'icmp_id'],
} as const satisfies Record<string, readonly FieldName[]>;

const its = text`its connection`;

/** The decision for all connections for which it is the same: its mask leaves out the tuple. */
export function ofConnections(decision: Decision, { object, name }: ConnectionUse, key: FlowKey): Decision {
  return {
    ...decision,
    actions: decision.actions.map((action): Action => (action.op === 'nat' ? NAT_BY_TUPLE : action)),
    mask: withoutTuple(decision.mask, key),
    consulted: decision.consulted.filter((consulted) => consulted !== object),
    stages: decision.stages.map((stage) => {
      const because = withPart(stage.because, name, its);
      return because === stage.because ? stage : { ...stage, because };
    }),
    connection: undefined,
  };
}

/** There are few masks, and each is one object (`maskOf`). */
const narrowed = { ports: new Map<FlowMask, FlowMask>(), identifier: new Map<FlowMask, FlowMask>() };

function withoutTuple(mask: FlowMask, key: FlowKey): FlowMask {
  const kind = protocolName(readNumber(key, fields.ip_proto)) === 'icmp' ? 'identifier' : 'ports';
  const known = narrowed[kind].get(mask);
  if (known) return known;
  const without = mask.slice();
  for (const name of tupleFields[kind]) without.fill(0, fields[name].offset, fields[name].offset + fields[name].size);
  narrowed[kind].set(mask, without);
  return without;
}
