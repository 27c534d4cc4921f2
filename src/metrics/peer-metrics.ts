/** The ways out of this host: the tunnel and its peers, the outside, weft's own sockets. */
import { gauge, labelled, type Metric } from './metric.ts';

export const peerMetrics: readonly Metric[] = [
  gauge(
    'weft_tunnel_open',
    '1 if the tunnel to other hosts is open; none without an underlay',
    ({ status }) => status.tunnel?.open,
  ),
  gauge('weft_peers', 'Other hosts that this host has a tunnel to', ({ status }) => status.peers.length),
  labelled(
    'gauge',
    'weft_peer_path_mtu_bytes',
    'Largest packet of the underlay that reaches the peer; none without a route to it',
    ['peer'],
    ({ status }) => Object.entries(status.pathMtus).map(([peer, value]) => ({ labels: { peer }, value })),
  ),
  labelled(
    'gauge',
    'weft_peer_path_mtu_probed',
    '1 if probes found that less reaches the peer than the kernel says',
    ['peer'],
    ({ status }) =>
      Object.entries(status.pathSources).map(([peer, source]) => ({
        labels: { peer },
        value: Number(source === 'probed'),
      })),
  ),
  gauge(
    'weft_outside_open',
    '1 if the outside is open; none if no network has one',
    ({ status }) => status.outside?.open,
  ),
  gauge(
    'weft_internal_open',
    '1 if sockets of weft at the gateways are open; none if weft listens on nothing',
    ({ status }) => status.internal?.open,
  ),
];
