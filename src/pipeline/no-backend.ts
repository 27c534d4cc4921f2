/**
 * No backend: what a client is told when none can be chosen for it. It is refused at once, but with the policy `local` only
 * dropped, since other hosts have one.
 */
import type { FlowView } from '../flow/view.ts';
import type { Eligibility } from '../table/balancer.ts';
import type { Excluded } from '../table/candidates.ts';
import type { NoChoice } from '../table/services.ts';
import { exclusionText } from './choice-text.ts';
import type { FrameOrigin } from './origin.ts';
import { reject } from './routed.ts';
import { drop, type Drop } from './stage.ts';
import { text, type Text } from './text.ts';

/** How many backends are told with what excludes them. */
const MOST_TOLD = 3;

/** @param reached what a backend would have to be: `reached from outside` */
export function refuseNone(
  view: FlowView,
  origin: FrameOrigin,
  {
    id,
    why,
    detail,
    selection: { excluded },
    reached,
  }: Pick<NoChoice, 'why' | 'detail'> & {
    readonly id: string;
    readonly selection: Pick<Eligibility, 'excluded'>;
    readonly reached: Text;
  },
): Drop {
  switch (why) {
    case 'local':
      return drop('service_local', text`service ${id}: no backend is on this host (${excludedText(excluded)})`);
    case 'no_backend':
      return reject(
        view,
        origin,
        'service_no_backend',
        text`service ${id}: no backend is ready that ${reached} (${excludedText(excluded)})`,
      );
    case 'full':
      // The next one may find that another connection is over.
      view.forThisFrame();
      return reject(
        view,
        origin,
        'service_full',
        text`service ${id}: all backends have as many connections as they may`,
      );
    case 'no_route':
      return reject(
        view,
        origin,
        'service_no_backend',
        text`service ${id}: ${detail ?? 'its routes lead to nothing that is there'}`,
      );
    default:
      return why satisfies never;
  }
}

/** `default/one: it is not ready, default/two: it is ejected: no answer to 3 connections, and 5 more` */
function excludedText(excluded: readonly Excluded[]): Text {
  if (excluded.length === 0) return nobody;
  const told = excluded
    .slice(0, MOST_TOLD)
    .map((one) => text`${one.backend.endpoint ?? one.backend.address}: ${exclusionText(one)}`);
  const more = excluded.length - told.length;
  return text`${more === 0 ? told : [...told, `and ${more} more`]}`;
}

const nobody = text`it has none`;
