/** A network's subnets and declared routes, as the switch needs them. */
import { isIp4, parseIp } from '../flow/types.ts';
import { addressText, gatewayOf, parseSubnet } from '../model/address.ts';
import type { RouteSpec } from '../model/kinds/network.ts';
import type { Prefix, Route } from '../table/routes.ts';
import type { VirtualNetworkOptions } from '../table/topology.ts';

/** @param network the network's name @param subnets valid ADDRESS/PREFIX texts */
export function routing(
  network: string,
  subnets: readonly string[],
  routes: readonly RouteSpec[],
): Required<Pick<VirtualNetworkOptions, 'subnets' | 'gateways' | 'routes'>> {
  return {
    subnets: subnets.map(prefixOf),
    gateways: subnets.map((subnet) => parseIp(addressText(gatewayOf(parseSubnet(subnet))))),
    routes: routes.map((route) => routeOf(network, route)),
  };
}

function routeOf(own: string, { to, network, via, type }: RouteSpec): Route {
  const prefix = prefixOf(to);
  if (type !== undefined) return { prefix, kind: type };
  if (via) return { prefix, kind: 'via', network: network ?? own, hops: via.map(parseIp) };
  return { prefix, kind: 'network', network: network ?? own };
}

/** @param text `10.96.0.0/16` */
export function prefixOf(text: string): Prefix {
  const [address = '', length] = text.split('/');
  const ip = parseIp(address);
  return { ip, length: length === undefined ? (isIp4(ip) ? 32 : 128) : Number(length) };
}
