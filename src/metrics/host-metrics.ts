/** Other hosts: whether the tunnel to each works, and whether each has in force what this host has. */
import { gauge, labelled, type Metric, type Sample } from './metric.ts';

const PEER_STATES = ['up', 'down', 'suspect', 'unprobed'] as const;
const HOST_STATES = ['in force', 'lagging', 'unknown', 'cut off', 'down'] as const;

export const hostMetrics: readonly Metric[] = [
  labelled(
    'gauge',
    'weft_peer_state',
    '1 for the state of the tunnel to the peer, 0 for the others: up, down, suspect or unprobed',
    ['peer', 'state'],
    ({ peers }) => peers.flatMap(({ underlay: peer, state }) => states({ peer }, PEER_STATES, state)),
  ),
  labelled(
    'gauge',
    'weft_peer_round_trip_seconds',
    'How long probes take to the peer and back; none without answers',
    ['peer'],
    ({ peers }) =>
      peers.flatMap(({ underlay: peer, roundTripMs }) =>
        roundTripMs === null ? [] : [{ labels: { peer }, value: roundTripMs / 1000 }],
      ),
  ),
  labelled(
    'gauge',
    'weft_peer_loss_ratio',
    'Part of the last probes that was lost, from the peer (in) and to it (out)',
    ['peer', 'direction'],
    ({ peers }) =>
      peers.flatMap(({ underlay: peer, lossIn, lossOut }) =>
        Object.entries({ in: lossIn, out: lossOut }).flatMap(([direction, { lost, of }]) =>
          of === 0 ? [] : [{ labels: { peer, direction }, value: lost / of }],
        ),
      ),
  ),
  gauge(
    'weft_registered',
    '1 if this host is one of the shared store; none if no store is shared',
    ({ status: { registration } }) => (registration === null ? undefined : registration.state === 'registered'),
  ),
  gauge(
    'weft_in_force_revision',
    'Last change of the state that this host has in force; none if no store is shared',
    ({ status }) => status.inForce?.revision,
  ),
  labelled(
    'gauge',
    'weft_host_state',
    '1 for what a host of the shared store has in force, 0 for the others: in_force, lagging, cut_off or down; unknown while it cannot say so',
    ['host', 'state'],
    ({ status }) => (status.inForce?.hosts ?? []).flatMap(({ host, state }) => states({ host }, HOST_STATES, state)),
  ),
  labelled(
    'gauge',
    'weft_host_lag_revisions',
    'How many revisions of the state a host of the shared store is behind this one',
    ['host'],
    ({ status: { inForce } }) =>
      (inForce?.hosts ?? []).flatMap(({ host, behind }) =>
        behind === undefined ? [] : [{ labels: { host }, value: behind }],
      ),
  ),
];

/** One sample for each state that there is: the current one has 1. */
function states<S extends string>(labels: Readonly<Record<string, string>>, all: readonly S[], current: S): Sample[] {
  return all.map((state) => ({
    labels: { ...labels, state: state.replace(' ', '_') },
    value: Number(state === current),
  }));
}
