/** Endpoints as `endpoints`, `attach` and `describe` show them. */
import type { EndpointReport } from '../model/report.ts';
import { table } from './print.ts';

export function endpointTable(endpoints: readonly EndpointReport[]): Promise<string> {
  return table(
    ['NAME', 'NETWORK', 'ADDRESSES', 'MAC', 'STATE', 'HOST', 'NETNS', 'INTERFACE', 'MTU'],
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
    ]),
    'No endpoints: attach one with `weft attach NAME --network N --netns NS`.',
  );
}
