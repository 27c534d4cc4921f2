/** Which flows, drops and events of policies are wanted: the filters that they have in common. */
import { WeftError } from '../error.ts';
import { dropReasons, type DropReason } from '../flow/reason.ts';
import { parseIp } from '../flow/types.ts';
import { prefixOf } from '../cluster/routing.ts';
import { duration, durationMs } from '../model/duration.ts';
import { idOf, nameOf } from '../model/name.ts';
import { didYouMean } from '../model/nearest.ts';
import { policyCidr } from '../model/kinds/ip-block.ts';
import type { TalkFilter, TalkReport } from '../model/talk-report.ts';
import { validate } from '../model/validate.ts';
import { ipAddress } from '../model/value.ts';
import { isInPrefix } from '../table/routes.ts';
import { fullName } from './judgement.ts';

/** What is filtered. */
export type Filtered = Partial<TalkReport> & {
  readonly reason?: string | undefined;
  /** When it was, RFC 3339. */
  readonly when?: string | undefined;
};

/** What names may stand for. */
export interface KnownNames {
  /** @param id by `idOf` */
  readonly hasEndpoint: (id: string) => boolean;
  readonly hasNetwork: (name: string) => boolean;
  /** What is kept, possibly of endpoints that have gone. */
  readonly kept: () => Iterable<Filtered>;
}

const LONGEST_MS = 7 * 86_400_000;
const sinceSchema = duration('a time', { leastMs: 1, mostMs: LONGEST_MS });

/**
 * @param nowMs milliseconds since the epoch
 * @throws WeftError('invalid') that names the filter that was not understood, WeftError('not_found') if nobody has that name
 */
export function talkFilter(of: TalkFilter, nowMs: number, known: KnownNames): (one: Filtered) => boolean {
  const { from, to, endpoint, network, reason, since } = of;
  if (reason !== undefined && !dropReasons.some(([name]) => name === (reason as DropReason))) {
    const hint = didYouMean(
      reason,
      dropReasons.map(([name]) => name),
    );
    throw new WeftError(
      'invalid',
      `reason: "${reason}" is no reason of a drop${hint || ': `weft drops` shows those that occur'}`,
    );
  }
  const sinceMs =
    since === undefined ? undefined : nowMs - durationMs(validate(sinceSchema, since, { field: 'since' }));
  const isFrom = endFilter('from', from, known);
  const isTo = endFilter('to', to, known);
  const isEither = endFilter('endpoint', endpoint, known);
  if (network !== undefined && !known.hasNetwork(network))
    throw new WeftError('not_found', `network "${network}" does not exist: \`weft network ls\` shows those that do`);
  return (one) =>
    isFrom(one.from, one.source) &&
    isTo(one.to, one.destination) &&
    (isEither(one.from, one.source) || isEither(one.to, one.destination)) &&
    (network === undefined || one.network === network) &&
    (reason === undefined || one.reason === reason) &&
    (sinceMs === undefined || (one.when !== undefined && Date.parse(one.when) >= sinceMs));
}

type EndFilter = (name: string | null | undefined, end: string | undefined) => boolean;

function endFilter(field: string, wanted: string | undefined, known: KnownNames): EndFilter {
  if (wanted === undefined) return () => true;
  if (!/[.:]/.test(wanted)) {
    const full = fullName(wanted);
    requireKnown(field, full, known);
    return (name) => name === full;
  }
  const prefix = prefixOf(validate(wanted.includes('/') ? policyCidr : ipAddress, wanted, { field }));
  return (_, end) => {
    const address = end === undefined ? '' : addressOf(end);
    return address !== '' && isInPrefix(prefix, parseIp(address));
  };
}

/** A name that nobody has, and nothing that is kept has, is misspelt: that nothing is listed must not look as if nothing was denied. */
function requireKnown(field: string, full: string, { hasEndpoint, kept }: KnownNames): void {
  const id = idOf(nameOf(full));
  if (hasEndpoint(id)) return;
  for (const { from, to } of kept()) if (from === full || to === full) return;
  const why = `${field}: endpoint "${id}" does not exist: \`weft endpoints\` shows those that do`;
  throw new WeftError('not_found', why);
}

/** `10.0.0.2` of `10.0.0.2:80`, `fd00::2` of `[fd00::2]:80`. */
function addressOf(end: string): string {
  const [, bracketed] = /^\[(.*)\]:\d+$/.exec(end) ?? [];
  if (bracketed !== undefined) return bracketed;
  return end.includes('.') ? end.replace(/:\d+$/, '') : end;
}
