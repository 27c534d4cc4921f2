/**
 * What policies say of a packet that begins a connection, wherever its ends are: those that are in force, or others. It is said
 * by what judges connections that are open (`pipeline/open-connections.ts`), so both say the same.
 */
import { INTERNAL, OUTSIDE, type ConnectionTuples, type Place } from '../flow/connection.ts';
import { sameBytes, type Vni } from '../flow/types.ts';
import {
  judgeConnection,
  type ConnectionEnd,
  type JudgedCase,
  type JudgingTables,
} from '../pipeline/open-connections.ts';
import { judgementText } from '../pipeline/policy-text.ts';
import { renderText } from '../pipeline/text.ts';

export interface PacketEnd {
  /** 16 bytes. */
  readonly address: Uint8Array;
  /** The network that it is in; undefined: outside. */
  readonly vni: Vni | undefined;
}

export interface PolicyPacket {
  readonly from: PacketEnd;
  readonly to: PacketEnd;
  readonly protocol: number;
  readonly l4Port: number;
}

export interface PacketJudgement {
  readonly verdict: 'allow' | 'deny';
  /** What has decided, in words. */
  readonly because: string;
  readonly from: ConnectionEnd;
  readonly to: ConnectionEnd;
}

/** No rule reads it. */
const SOURCE_PORT = 49_152;

export function judgePacket({ from, to, protocol, l4Port }: PolicyPacket, tables: JudgingTables): PacketJudgement {
  const tuple = {
    ...{ source: from.address, destination: to.address },
    ...{ sourcePort: SOURCE_PORT, destinationPort: l4Port },
  };
  const places = [from.vni ?? OUTSIDE, placeOf(to, protocol, l4Port, tables)] as const;
  return summaryOf(judgeConnection({ kind: 'tracked', places, protocol, original: tuple, translated: tuple }, tables));
}

/** True if policies deny a connection, of either end, whichever hosts these are on. */
export function deniesConnection(connection: ConnectionTuples, tables: JudgingTables): boolean {
  return judgeConnection(connection, tables).judged.some(({ judgement }) => judgement.verdict === 'deny');
}

/** Where packets to that end go: where weft's own sockets listen at a gateway, it is one of them that is meant. */
export function placeOf(
  { address, vni }: PacketEnd,
  protocol: number,
  l4Port: number,
  { topology }: Pick<JudgingTables, 'topology'>,
): Place {
  if (vni === undefined) return OUTSIDE;
  const isGateway = topology.network(vni)?.gateways.some((gateway) => sameBytes(gateway, address)) ?? false;
  const isServed = topology.internal?.listening.some((one) => one.protocol === protocol && one.l4Port === l4Port);
  return isGateway && isServed === true ? INTERNAL : vni;
}

/** Denied by one of them, or allowed by all that are asked. */
export function summaryOf({ judged, from, to }: JudgedCase): PacketJudgement {
  const denied = judged.find(({ judgement }) => judgement.verdict === 'deny');
  const told = denied ? [denied] : judged;
  const because = told.map(({ direction, judgement }) => `${direction}: ${renderText(judgementText(judgement))}`);
  return {
    verdict: denied ? 'deny' : 'allow',
    because: because.length === 0 ? 'no policy selects either end' : because.join('; '),
    ...{ from, to },
  };
}
