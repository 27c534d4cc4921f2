/**
 * A flow class: conversations that are alike to policies. Who begins them and with whom, by which protocol and destination port after all
 * translation; whether they were allowed when they were last seen; and when and how often they were seen.
 *
 * A workload that is there is known by its name, so that it is judged with the labels that it has when somebody asks. One that has gone
 * is known by its namespace and labels: so the runs of a job, each of which has a name of its own, are one class, and are judged as
 * the next run will be.
 *
 * Who talks to very many is known less exactly beyond some classes. Each level stands for more than the one before it, and has the
 * conversation that was seen last to be judged by:
 *
 *   exact   these two ends, this protocol, this port
 *   ports   these two ends, this protocol, any further port
 *   block   any further peer in a block of addresses, by any port
 *   any     all the rest of one address family
 */
import { INTERNAL, type Place } from '../../flow/connection.ts';
import { bytesId } from '../../flow/key.ts';
import { isIp4, sameBytes } from '../../flow/types.ts';
import type { FormerIdentity } from '../../cluster/policies/proposed-policies.ts';

export interface ClassEnd {
  /** 16 bytes. */
  readonly address: Uint8Array;
  /** The workload that has the address, or may send from it. */
  readonly endpoint?: string | undefined;
  /** What policies saw of that workload; undefined: they saw nothing but its address. */
  readonly identity?: FormerIdentity | undefined;
  /** The workload of this host whose policies are asked: that one, or the router that it is behind. */
  readonly subject?: string | undefined;
  /** The workload is not there any more. */
  readonly isGone?: boolean | undefined;
}

export type FlowVerdict = 'allow' | 'deny';

/** A conversation as policies see it. */
export interface Talk {
  readonly places: readonly [Place, Place];
  readonly from: ClassEnd;
  readonly to: ClassEnd;
  readonly protocol: number;
  /** The destination port, after all translation; 0 for a protocol without ports. */
  readonly l4Port: number;
  /** The address that its sender means: that of a service, or of whom it goes to. */
  readonly meant: Uint8Array;
  /** The port of a service; undefined if it goes to none, or if that is not known. */
  readonly meantPort?: number | undefined;
}

export const classLevels = ['exact', 'ports', 'block', 'any'] as const;
export type ClassLevel = (typeof classLevels)[number];

export interface FlowClass extends Talk {
  readonly level: ClassLevel;
  /** When it was last seen, it was allowed, or denied. */
  readonly verdict: FlowVerdict;
  /** By one clock for all of them: here that of the switch, in the file and for others milliseconds since the epoch. */
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  /** How many conversations were opened, and how often one was denied. */
  readonly opened: number;
  readonly denied: number;
}

/** How many bits of an address a block has: IPv4, IPv6. */
const BLOCK_BYTES = [12 + 2, 6] as const;

/** Whose classes they are: those that one workload begins; of others, those that one workload gets. */
export function sourceOf({ from, to }: Talk): string {
  const sender = whoIs(from);
  return sender === undefined ? `to ${whoIs(to) ?? ''}` : `from ${sender}`;
}

/** The same for all conversations of one class of its source. */
export function classKey(level: ClassLevel, talk: Talk): string {
  const { from, to, protocol, l4Port, places } = talk;
  switch (level) {
    case 'exact':
      return `${pairKey(talk)} ${protocol}/${l4Port}`;
    case 'ports':
      return `${pairKey(talk)} ${protocol}`;
    case 'block':
      // The peer of the workload whose classes these are.
      return `${places.join(' ')} ${whoIs(from) === undefined ? blockOf(from) : blockOf(to)}`;
    case 'any':
      return isIp4(from.address) ? 'IPv4' : 'IPv6';
    default:
      return level satisfies never;
  }
}

function pairKey({ from, to, places, meant }: Talk): string {
  // A workload may always talk to its own address, but not always to itself through a service.
  const isDirect = sameBytes(meant, to.address);
  return `${places.join(' ')} ${isDirect ? '' : 's'} ${endKey(from)} ${places[1] === INTERNAL ? 'weft' : endKey(to)}`;
}

function endKey(end: ClassEnd): string {
  const { address, endpoint, identity, isGone } = end;
  const who = whoIs(end) ?? '';
  // Others of the same kind come with other addresses.
  if (endpoint !== undefined && isGone && identity) return `${who} ${isIp4(address)}`;
  return `${who} ${bytesId(address)}`;
}

/** Undefined: nobody that is known. */
function whoIs({ endpoint, identity, subject, isGone }: ClassEnd): string | undefined {
  if (endpoint !== undefined && isGone) return identity && identityKey(identity);
  return endpoint ?? subject;
}

const identityKeys = new WeakMap<FormerIdentity, string>();

/** The same for all that are alike to policies. */
export function identityKey(identity: FormerIdentity): string {
  let key = identityKeys.get(identity);
  if (key === undefined) {
    const { namespace, labels, ports } = identity;
    key = JSON.stringify([namespace, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)), ports]);
    identityKeys.set(identity, key);
  }
  return key;
}

function blockOf({ address }: ClassEnd): string {
  const [v4, v6] = BLOCK_BYTES;
  return bytesId(address.subarray(0, isIp4(address) ? v4 : v6));
}
