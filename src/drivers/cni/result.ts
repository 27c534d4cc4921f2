/** What a runtime gets for an ADD (CNI specification 1.1, section 5), in the form of the version that it speaks. */
import { searchPath } from '../../discovery/service-view.ts';
import type { CniConfiguration, CniVersion } from './configuration.ts';

export interface AttachedInterface {
  readonly ifname: string;
  /** The path of its namespace, as it was given. */
  readonly sandbox: string;
  readonly mac: string;
  readonly mtu: number;
  /** Each in its subnet. */
  readonly addresses: readonly { readonly cidr: string; readonly gateway: string }[];
}

export interface Dns {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** Enough dots that names of services are tried before those of the outside, as Kubernetes has it. */
const DNS_OPTIONS: readonly string[] = ['ndots:5'];

/**
 * Who is asked for names: the network's gateways, unless the configuration or the runtime says otherwise.
 * @param names the network's name, and the namespace of the container
 */
export function dnsOf(
  { dns, runtimeConfig }: CniConfiguration,
  {
    gateways,
    network,
    namespace,
  }: { readonly gateways: readonly string[]; readonly network: string; readonly namespace: string },
): Dns {
  const runtime = runtimeConfig?.dns ?? {};
  return {
    nameservers: runtime.servers ?? dns?.nameservers ?? gateways,
    search: runtime.searches ?? dns?.search ?? searchPath(namespace, network),
    options: runtime.options ?? dns?.options ?? DNS_OPTIONS,
  };
}

/** The result, after that of the plugins before, if there were any. */
export function addResult(
  version: CniVersion,
  { ifname, sandbox, mac, mtu, addresses }: AttachedInterface,
  dns: Dns,
  before: Readonly<Record<string, unknown>> = {},
): object {
  const list = (key: string): readonly unknown[] => (Array.isArray(before[key]) ? (before[key] as unknown[]) : []);
  const interfaces = list('interfaces');
  const isOld = version.startsWith('0.');
  const ips = addresses.map(({ cidr, gateway }) => ({
    ...(isOld && { version: isIp6(cidr) ? '6' : '4' }),
    address: cidr,
    gateway,
    interface: interfaces.length,
  }));
  const routes = addresses.map(({ cidr, gateway }) => ({ dst: isIp6(cidr) ? '::/0' : '0.0.0.0/0', gw: gateway }));
  return {
    ...before,
    cniVersion: version,
    interfaces: [...interfaces, { name: ifname, mac, ...(version === '1.1.0' && { mtu }), sandbox }],
    ips: [...list('ips'), ...ips],
    routes: [...list('routes'), ...routes],
    dns,
  };
}

function isIp6(address: string): boolean {
  return address.includes(':');
}
