/**
 * No backend: what a client is told when none can be chosen for it. It is refused at once, but with the policy `local` only
 * dropped, since other hosts have one.
 */
import type { FlowView } from '../flow/view.ts';
import type { Eligibility } from '../table/balancer.ts';
import type { NoChoice } from '../table/service-choices.ts';
import { exclusionText, routeText } from './choice-text.ts';
import type { FrameOrigin } from './origin.ts';
import { reject } from './routed.ts';
import { drop, type Drop, type RefusedService } from './stage.ts';
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
    route,
    reached,
  }: Pick<NoChoice, 'why' | 'detail' | 'route'> & {
    readonly id: string;
    readonly selection: Pick<Eligibility, 'excluded'>;
    readonly reached: Text;
  },
): Drop {
  // Who has no room would be the only candidates.
  const concerned = why === 'full' ? excluded.filter((one) => one.why === 'full') : excluded;
  const refused = {
    service: id,
    excluded: concerned.slice(0, MOST_TOLD),
    more: Math.max(concerned.length - MOST_TOLD, 0),
  };
  const whose = route ? text`service ${id}: ${routeText(route)}` : text`service ${id}`;
  switch (why) {
    case 'local': {
      const because = text`${whose}: no backend is on this host (${excludedText(refused)})`;
      return { ...drop('service_local', because), refused };
    }
    case 'no_backend': {
      const because = text`${whose}: no backend is ready that ${reached} (${excludedText(refused)})`;
      return { ...reject(view, origin, 'service_no_backend', because), refused };
    }
    case 'full': {
      // The next one may find that another connection is over.
      view.forThisFrame();
      const because = text`${whose}: all backends have as many connections as they may (${fullText(refused)})`;
      return { ...reject(view, origin, 'service_full', because), refused };
    }
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
function excludedText({ excluded, more }: RefusedService): Text {
  if (excluded.length === 0) return nobody;
  const told = excluded.map((one) => text`${one.backend.endpoint ?? one.backend.address}: ${exclusionText(one)}`);
  return text`${more === 0 ? told : [...told, `and ${more} more`]}`;
}

/** `default/one: 8 at most, default/two: 8 at most, and 5 more` */
function fullText({ excluded, more }: RefusedService): Text {
  const told = excluded.map(({ backend, detail = '' }) => text`${backend.endpoint ?? backend.address}: ${detail}`);
  return text`${more === 0 ? told : [...told, `and ${more} more`]}`;
}

const nobody = text`it has none`;
