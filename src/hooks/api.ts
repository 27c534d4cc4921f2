/**
 * What a flow hook is written with: TypeScript that says who may begin a conversation with whom.
 *
 *   import { defineHook, deny, isIn } from 'weft';
 *
 *   export default defineHook({
 *     name: 'fence',
 *     onFlow({ source, destination }) {
 *       if (source.labels.zone === 'eu' && isIn(destination.address, '198.51.100.0/24')) return deny('not from the EU');
 *     },
 *   });
 *
 * A hook is asked when a conversation begins, on the host of its sender, before the policies. What it says holds for everything
 * that is alike in what it has read: it is a function of that, and keeps nothing from one call to the next. It runs in a context
 * that has the language, and these functions, and nothing else (`inside.ts`).
 *
 * The functions are passed there as text. So each uses only its arguments and the language.
 */

/** One end of a conversation. */
export interface HookEnd {
  /** `10.0.0.2`, `fd00::2`; of the destination, what the sender has addressed: for a service, the address of the service. */
  readonly address: string;
  /** Of TCP, UDP and SCTP; 0 for protocols without ports. A hook that reads the port of the source is asked about each connection. */
  readonly port: number;
  /**
   * The name of the workload, and its namespace; undefined if the address is of none. Of the destination, who gets the packet: for
   * a service, the backend that was chosen, so that a hook that reads it is asked about each connection.
   */
  readonly endpoint: string | undefined;
  readonly namespace: string | undefined;
  /** Empty if the address is of no workload. */
  readonly labels: Readonly<Record<string, string>>;
  /** The labels of its namespace. */
  readonly namespaceLabels: Readonly<Record<string, string>>;
}

/** What begins: its first packet, as the sender has sent it. */
export interface HookFlow {
  /** `tcp`, `udp`, `sctp`, `icmp` (of both families), or `proto 47` for any other. */
  readonly protocol: string;
  readonly ipVersion: 4 | 6;
  readonly source: HookEnd & {
    /** The network of the workload; undefined for a client outside. */
    readonly network: string | undefined;
  };
  readonly destination: HookEnd;
  /** `NAMESPACE/NAME` of the service that a container has asked for; undefined if it is none. */
  readonly service: string | undefined;
  /** Its backends that may be chosen, for `balance`; none if there are more than 64, or it is no service. */
  readonly backends: readonly HookBackend[];
  /** What a hook before this one has set; 0 if none has. */
  readonly mark: number;
}

/** A backend of a service. */
export interface HookBackend extends HookEnd {
  /** Its part of the connections, compared with the others. */
  readonly weight: number;
}

export interface HookContext {
  /** The host that the hook runs on. */
  readonly host: string;
  /** From 0 up to 1, the same for all packets of one connection, and any for another one. */
  random(): number;
}

/** What becomes of a connection that is allowed, for as long as it is open. Of several hooks, the first that sets one of these has the say. */
export interface HookTreatment {
  /** A number from 1 to 65,535, which hooks after this one read, and `weft connections` shows. */
  readonly mark?: number;
  /** From 0 to 63: packets of the sender get it. Replies do not. */
  readonly dscp?: number;
  /** What the sender may send. Packets beyond that are dropped. */
  readonly rate?: HookRate;
}

/** A rate on the wire. What is not given is not limited. */
export interface HookRate {
  /** Who shares it: all connections that begin on this host, and for which this hook names the same. 1 to 200 characters. */
  readonly by: string;
  /** From 1,000 to 10^12. */
  readonly bitsPerSecond?: number;
  /** From 1 to 10^9. */
  readonly packetsPerSecond?: number;
}

export type HookVerdict =
  | { readonly verdict: 'allow'; readonly treatment?: HookTreatment | undefined }
  /** It is allowed, to one of these backends, by their weights. */
  | {
      readonly verdict: 'balance';
      readonly backends: readonly Pick<HookBackend, 'address' | 'port' | 'weight'>[];
      readonly treatment?: HookTreatment | undefined;
    }
  /** Reject tells the sender: it gets a TCP reset or an ICMP error. */
  | { readonly verdict: 'deny' | 'reject'; readonly reason: string };

export interface Hook {
  /** As the manifest calls it. Hooks are asked in the order of their names, and the first that denies has the say. */
  readonly name: string;
  /** Nothing, like `allow()`, leaves it to the others and to the policies. */
  onFlow(flow: HookFlow, context: HookContext): HookVerdict | undefined | void;
}

/** Gives the hook its types. A file has one, as its default export. */
export function defineHook(hook: Hook): Hook {
  return hook;
}

/**
 * This hook has nothing against it. It does not override what other hooks, or policies, deny.
 * @param treatment what becomes of the connection, if all others let it pass, too
 */
export function allow(treatment?: HookTreatment): HookVerdict {
  return { verdict: 'allow', treatment };
}

/**
 * Chooses among some of the backends of the service, each connection by its hash and their weights, which may be others. Of several
 * hooks, the first has the say. @throws when it is used, if there is none with a weight
 */
export function balance(
  backends: readonly Pick<HookBackend, 'address' | 'port' | 'weight'>[],
  treatment?: HookTreatment,
): HookVerdict {
  return { verdict: 'balance', backends, treatment };
}

/** The packet is dropped. @param reason what `weft why` and `weft drops` tell */
export function deny(reason: string): HookVerdict {
  return { verdict: 'deny', reason };
}

/** The packet is dropped, and its sender is told, so that it gives up at once. */
export function reject(reason: string): HookVerdict {
  return { verdict: 'reject', reason };
}

/** True if the address is in one of the prefixes, such as `10.0.0.0/8` or `2001:db8::/32`. @throws RangeError if one is none */
export function isIn(address: string, ...prefixes: readonly string[]): boolean {
  /** The bits of an address as text; undefined if it is none. */
  const bitsOf = (text: string): string | undefined => {
    const numbers = (parts: readonly string[], base: number, bits: number): string | undefined => {
      const digits = base === 10 ? /^\d{1,3}$/ : /^[0-9a-f]{1,4}$/i;
      const values = parts.map((part) => (digits.test(part) ? Number.parseInt(part, base) : 2 ** bits));
      if (values.some((value) => value >= 2 ** bits)) return undefined;
      return values.map((value) => value.toString(2).padStart(bits, '0')).join('');
    };
    if (!text.includes(':')) return text.split('.').length === 4 ? numbers(text.split('.'), 10, 8) : undefined;
    const [head = '', tail, more] = text.split('::');
    if (more !== undefined) return undefined;
    const first = head === '' ? [] : head.split(':');
    const last = tail === undefined || tail === '' ? [] : tail.split(':');
    const missing = 8 - first.length - last.length;
    if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
    return numbers([...first, ...new Array<string>(missing).fill('0'), ...last], 16, 16);
  };
  const bits = bitsOf(address);
  if (bits === undefined) throw new RangeError(`isIn: "${address}" is not an address`);
  return prefixes.some((prefix) => {
    const [text = '', length = '', more] = prefix.split('/');
    const known = bitsOf(text);
    if (known === undefined || more !== undefined || !/^\d{1,3}$/.test(length) || Number(length) > known.length)
      throw new RangeError(`isIn: "${prefix}" is not a prefix like 10.0.0.0/8 or 2001:db8::/32`);
    return known.length === bits.length && bits.startsWith(known.slice(0, Number(length)));
  });
}
