/**
 * No backend: what a client is told when none can be chosen for it. It is refused at once, but with the policy `local` only
 * dropped, since other hosts have one.
 */
import type { FlowView } from '../flow/view.ts';
import type { NoChoice } from '../table/services.ts';
import type { FrameOrigin } from './origin.ts';
import { reject } from './routed.ts';
import { drop, type Drop } from './stage.ts';
import { text, type Text } from './text.ts';

/** @param reached what a backend would have to be: `reached from outside` */
export function refuseNone(
  view: FlowView,
  origin: FrameOrigin,
  { id, why, detail, reached }: Pick<NoChoice, 'why' | 'detail'> & { readonly id: string; readonly reached: Text },
): Drop {
  switch (why) {
    case 'local':
      return drop('service_local', text`service ${id}: no backend is on this host`);
    case 'no_backend':
      return reject(view, origin, 'service_no_backend', text`service ${id}: no backend is ready that ${reached}`);
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
