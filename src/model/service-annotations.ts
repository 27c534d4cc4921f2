/** The annotations of a Service. */
import {
  ANNOTATION_PREFIX,
  unknownAnnotationText,
  wildcardOf,
  type Annotations,
  type RefuseAnnotation,
} from './annotations.ts';
import { duration, durationMs } from './duration.ts';
import { HEALTH_CHECK_KEYS, isAboutChecks } from './health-check.ts';
import { didYouMean } from './nearest.ts';
import { outsideAddress, quote } from './value.ts';

/** What they say, checked. */
export interface ServiceAnnotations {
  /** Further ports, each with the same number at the backend. */
  readonly ranges: readonly PortRange[];
  /** How long connections may stay with a backend that terminates. */
  readonly drainMs: number;
  readonly balancing: 'maglev' | 'round-robin' | 'least-connections' | 'random' | 'source-hash';
  /** True if all names below its own mean it (RFC 4592). */
  readonly hasWildcard: boolean;
  /** Where type LoadBalancer is reached from outside, canonical. */
  readonly loadBalancerIps: readonly string[];
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
  /** Undefined: each of those that the ports of the Service have. */
  readonly protocol: 'TCP' | 'UDP' | undefined;
}

export const LOAD_BALANCER_IPS = 'weft.dev/load-balancer-ips';
/** Those about connections to the addresses of a service. */
export const FOR_CONNECTIONS = ['weft.dev/ports', 'weft.dev/balancing', 'weft.dev/drain'];
const DEFAULT_DRAIN_MS = 0;
const MOST_RANGES = 16;
const drain = duration('a time to drain', { leastMs: 0, mostMs: 86_400_000 }).transform(durationMs);
const methods = ['maglev', 'round-robin', 'least-connections', 'random', 'source-hash'] as const;

/** One for each annotation: reads its text, or refuses it. */
const readers = {
  ports: (text: string, refuse: (message: string) => void) => {
    const ranges = text.split(',').map((part) => {
      const [, first = '', last = first, suffix] =
        /^\s*([1-9]\d{0,4})(?:\s*-\s*([1-9]\d{0,4}))?(?:\/(tcp|udp))?\s*$/i.exec(part) ?? [];
      const protocol =
        suffix === undefined ? undefined : suffix.toLowerCase() === 'udp' ? ('UDP' as const) : ('TCP' as const);
      return { first: Number(first), last: Number(last), protocol };
    });
    const isSound = ranges.every(({ first, last }) => first >= 1 && first <= last && last <= 65_535);
    if (!isSound || ranges.length > MOST_RANGES) {
      refuse(
        `${quote(text)} is not a range of ports like 5060-5160 or 5060-5160/udp, or up to ${MOST_RANGES} with commas between them`,
      );
    } else if (ranges.some((range, at) => ranges.slice(0, at).some((other) => overlap(range, other)))) {
      refuse(`${quote(text)} has ranges that overlap`);
    } else return { ranges };
    return {};
  },
  drain: (text: string, refuse: (message: string) => void) => {
    const read = drain.safeParse(text);
    if (read.success) return { drainMs: read.data };
    refuse(read.error.issues[0]!.message);
    return {};
  },
  balancing: (text: string, refuse: (message: string) => void) => {
    const balancing = methods.find((method) => method === text);
    if (balancing) return { balancing };
    const hint = didYouMean(text, methods) || ':';
    refuse(`${quote(text)} is not a way of balancing${hint} accepted are ${methods.join(', ')}`);
    return {};
  },
  wildcard: (text: string, refuse: (message: string) => void) => {
    const hasWildcard = wildcardOf(text, refuse);
    return hasWildcard === undefined ? {} : { hasWildcard };
  },
  'load-balancer-ips': (text: string, refuse: (message: string) => void) => {
    const parsed = text.split(',').map((one) => outsideAddress.safeParse(one.trim()));
    const loadBalancerIps = parsed.flatMap(({ data }) => data ?? []);
    const problem = parsed.find(({ error }) => error)?.error?.issues[0]?.message;
    if (problem === undefined) return { loadBalancerIps };
    refuse(`${problem}; there may be one of each family, with a comma between them`);
    return {};
  },
} satisfies Readonly<Record<string, (text: string, refuse: (message: string) => void) => Partial<ServiceAnnotations>>>;

function overlap(a: PortRange, b: PortRange): boolean {
  const isOfOne = a.protocol === undefined || b.protocol === undefined || a.protocol === b.protocol;
  return isOfOne && a.first <= b.last && b.first <= a.last;
}

/** Ports beyond those that a Service declares, and where they are in the range that has them. */
export interface FurtherPorts {
  readonly first: number;
  readonly last: number;
  readonly protocol: 'TCP' | 'UDP';
  /** The number of the range, and how far in it they begin. */
  readonly range: number;
  readonly offset: number;
}

/** The ranges without the ports that are declared, which lead where they say: by range, then by protocol. */
export function furtherPorts(
  ports: readonly { readonly port: number; readonly protocol: 'TCP' | 'UDP' }[],
  ranges: readonly PortRange[],
): readonly FurtherPorts[] {
  const protocols = [...new Set(ports.map(({ protocol }) => protocol))];
  return ranges.flatMap(({ first, last, protocol: only }, range) =>
    (only === undefined ? protocols : [only]).flatMap((protocol) => {
      const declared = ports.filter((port) => port.protocol === protocol).map(({ port }) => port);
      return gaps({ first, last }, declared).map((gap) => ({ ...gap, protocol, range, offset: gap.first - first }));
    }),
  );
}

/** What of a range is left without some of its ports. */
function gaps({ first, last }: { readonly first: number; readonly last: number }, without: readonly number[]) {
  const cuts = without.filter((port) => first <= port && port <= last).sort((a, b) => a - b);
  const starts = [first, ...cuts.map((port) => port + 1)];
  const ends = [...cuts.map((port) => port - 1), last];
  return starts.map((start, at) => ({ first: start, last: ends[at]! })).filter((gap) => gap.first <= gap.last);
}

const unannotated: ServiceAnnotations = {
  ranges: [],
  drainMs: DEFAULT_DRAIN_MS,
  balancing: 'maglev',
  hasWildcard: false,
  loadBalancerIps: [],
};

export function readAnnotations(annotations: Annotations, refuse: RefuseAnnotation = () => {}): ServiceAnnotations {
  if (annotations === undefined) return unannotated;
  return Object.entries(annotations).reduce((known, [key, text]) => {
    if (!key.startsWith(ANNOTATION_PREFIX) || isAboutChecks(key)) return known;
    const own = key.slice(ANNOTATION_PREFIX.length);
    if (Object.hasOwn(readers, own)) {
      const reader = readers[own as keyof typeof readers];
      return { ...known, ...reader(text, (message) => refuse(key, message)) };
    }
    const names = [...Object.keys(readers).map((name) => ANNOTATION_PREFIX + name), ...HEALTH_CHECK_KEYS];
    refuse(key, unknownAnnotationText(key, names));
    return known;
  }, unannotated);
}
