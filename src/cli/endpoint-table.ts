/** Endpoints as `endpoints`, `attach` and `describe` show them. */
import type { EndpointReport } from '../model/report.ts';
import { table } from './print.ts';

/** `192.0.2.1:8080->80/tcp` */
function publishText({ hostIP, hostPort, port, protocol }: EndpointReport['publish'][number]): string {
  const host = hostIP?.includes(':') ? `[${hostIP}]` : hostIP;
  return `${host === undefined ? '' : `${host}:`}${hostPort}->${port}/${protocol.toLowerCase()}`;
}

export function endpointTable(endpoints: readonly EndpointReport[]): Promise<string> {
  return table(
    ['NAME', 'NETWORK', 'ADDRESSES', 'MAC', 'STATE', 'HOST', 'NETNS', 'INTERFACE', 'MTU', 'PUBLISHED'],
    endpoints.map((endpoint) => [
      endpoint.name,
      endpoint.network,
      endpoint.addresses.join(','),
      endpoint.mac,
      endpoint.state,
      endpoint.host,
      endpoint.netns ?? '',
      endpoint.interface ?? '',
      endpoint.mtu ?? '',
      endpoint.publish.map(publishText).join(','),
    ]),
    'No endpoints: attach one with `weft attach NAME --network N --netns NS`.',
  );
}
