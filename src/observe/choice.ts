/** How the backend of a connection was chosen, as `weft why` and `weft trace` show it. */
import { formatIp } from '../flow/types.ts';
import type { ChoiceReport } from '../model/service-report.ts';
import { choiceText, exclusionText } from '../pipeline/choice-text.ts';
import { renderText } from '../pipeline/text.ts';
import type { Excluded } from '../table/candidates.ts';
import type { KeptChoice } from '../table/kept-choices.ts';
import type { Backend } from '../table/service.ts';
import type { TakenRoute } from '../table/service-routes.ts';
import { reportPort } from './services.ts';

export function reportChoice(choice: KeptChoice): ChoiceReport {
  const { selection, pin, by, route } = choice;
  const { service, subset, port, candidates, excluded } = selection;
  return {
    service: service.id,
    port: reportPort(port),
    ...(subset !== undefined && { subset }),
    ...(route && { route: reportRoute(route) }),
    by,
    reason: renderText(choiceText(choice)),
    candidates: candidates.map(({ backend, weight, target, pinned }) => ({
      ...nameOfBackend(backend),
      weight,
      port: target,
      chosen: pinned.pin === pin,
    })),
    excluded: excluded.map(reportExcluded),
  };
}

export function reportExcluded(one: Excluded): ChoiceReport['excluded'][number] {
  return { ...nameOfBackend(one.backend), why: exclusionText(one) };
}

function reportRoute({ service, rule, route, destination }: TakenRoute): NonNullable<ChoiceReport['route']> {
  const destinations = route.destinations.map((one) => ({
    service: one.service,
    ...(one.subset !== undefined && { subset: one.subset }),
    weight: one.weight,
    chosen: one === destination,
  }));
  return { service, virtualService: rule, destinations };
}

function nameOfBackend({ endpoint, address, host }: Backend): {
  readonly endpoint: string | null;
  readonly address: string;
  readonly host: string | null;
} {
  return { endpoint: endpoint ?? null, address: formatIp(address), host: host ?? null };
}
