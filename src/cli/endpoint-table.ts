/** Endpoints as `endpoints`, `attach` and `describe` show them. */
import { idOf } from '../model/name.ts';
import { publishText } from '../model/publish.ts';
import { rateLimitText } from '../model/rate.ts';
import type { EndpointReport } from '../model/report.ts';
import type { NamespaceOptions } from './kind.ts';
import { table } from './print.ts';

/** Below the table, one line for each problem of an interface. */
export async function endpointTable(
  endpoints: readonly EndpointReport[],
  { namespace }: NamespaceOptions = {},
): Promise<string> {
  const problems = endpoints.flatMap((endpoint) =>
    (endpoint.problems ?? []).map((problem) => `${idOf(endpoint)}: ${problem}\n`),
  );
  return `${await tableOf(endpoints, namespace)}${problems.length > 0 ? '\n' : ''}${problems.join('')}`;
}

function tableOf(endpoints: readonly EndpointReport[], namespace: string | undefined): Promise<string> {
  const where = namespace === undefined ? '' : ` in namespace "${namespace}"`;
  return table(
    ['NAME', 'NETWORK', 'ADDRESSES', 'MAC', 'STATE', 'HOST', 'NETNS', 'INTERFACE', 'MTU', 'RATE LIMIT', 'PUBLISHED'],
    endpoints.map((endpoint) => [
      idOf(endpoint),
      endpoint.network,
      endpoint.addresses.join(','),
      endpoint.mac,
      endpoint.held ? 'held' : endpoint.state,
      endpoint.host,
      endpoint.netns ?? '',
      endpoint.interface ?? '',
      endpoint.mtu ?? '',
      endpoint.rateLimit ? rateLimitText(endpoint.rateLimit) : '',
      endpoint.publish.map(publishText).join(','),
    ]),
    `No endpoints${where}: attach one with \`weft attach NAME --network N --netns NS\`.`,
  );
}
