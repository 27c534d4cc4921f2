/** Why a backend was chosen, and why others could not be: in words, for decisions and for `weft why`. */
import type { Excluded, Exclusion } from '../table/candidates.ts';
import type { KeptChoice } from '../table/kept-choices.ts';
import type { RouteDestination } from '../table/service.ts';
import type { Choice } from '../table/service-choices.ts';
import type { TakenRoute } from '../table/service-routes.ts';
import { text, type Text } from './text.ts';

const methods = {
  affinity: 'because the client had it before',
  maglev: 'by the hash of the connection',
  'round-robin': 'because it was its turn',
  'least-connections': 'because it had the fewest connections for its weight',
  random: 'at random',
  'source-hash': 'by the hash of the client’s address',
  hook: 'by the weights of a hook',
} as const satisfies Record<KeptChoice['by'], string>;

/** `backend default/web, port 8080, the only candidate`; after a route, how it came there. */
export function chosenText(choice: Choice): Text {
  const { backend, l4Port, route } = choice;
  const chosen = text`backend ${backend.endpoint ?? backend.address}, port ${l4Port}, ${choiceText(choice)}`;
  return route ? text`${routeText(route)}: ${chosen}` : chosen;
}

/** Follows the name of the backend: `one of 3 candidates, by the hash of the connection`. */
export function choiceText({ by, selection: { candidates, service }, route }: Omit<KeptChoice, 'pin'>): Text {
  if (candidates.length === 1) return onlyOne;
  const { affinityMs } = route ?? service;
  const method = by === 'maglev' && affinityMs !== undefined ? 'source-hash' : by;
  return text`one of ${candidates.length} candidates, ${methods[method]}`;
}

/** `virtualservice default/reviews leads to subset v3, weight 10 of 100`: follows the service that was asked for. */
export function routeText({ service, rule, route, destination }: TakenRoute): Text {
  const { weight } = destination;
  const total = route.destinations.reduce((sum, one) => sum + one.weight, 0);
  const share = route.destinations.length === 1 ? 'all' : `weight ${weight} of ${total}`;
  return text`virtualservice ${rule} leads to ${destinationText(destination, service)}, ${share}`;
}

/** `subset v3`, `service shop/reviews`, `service shop/reviews, subset v3`. @param from the service that has the route */
export function destinationText({ service, subset }: RouteDestination, from: string): string {
  if (service === from && subset !== undefined) return `subset ${subset}`;
  return subset === undefined ? `service ${service}` : `service ${service}, subset ${subset}`;
}

const onlyOne = text`the only candidate`;

const exclusions = {
  other_family: 'its address is of the other IP version',
  no_port: 'it does not have the port',
  no_weight: 'its weight is 0',
  other_subset: 'it is not in the subset',
  unreachable: 'the network of the client does not reach it',
  other_host: 'it is on another host, and the traffic policy is Local',
  not_ready: 'it is not ready',
  terminating: 'it terminates',
  ejected: 'it is ejected',
  check_failed: 'its check fails',
  full: 'it has as many connections as it may',
  farther_away: 'others are nearer',
  too_many: 'there are too many backends',
} as const satisfies Record<Exclusion, string>;

/** `it is ejected: no answer to 3 connections` */
export function exclusionText({ why, detail }: Excluded): string {
  return detail === undefined ? exclusions[why] : `${exclusions[why]}: ${detail}`;
}
