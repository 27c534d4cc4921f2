/**
 * The naive twin of the zone: it lists every name that a client could ask for with its records, and looks names up in that
 * list as RFC 1034 section 4.3.2 and RFC 4592 say, without knowing what they mean.
 */
import { formatIp, isIp4 } from '../../src/flow/types.ts';
import type { ServiceUpdate, ZoneChange, ZoneEndpoint, ZoneNetwork } from '../../src/discovery/records.ts';
import type { ZoneClient } from '../../src/discovery/zone.ts';
import { IP_TCP } from '../../src/wire/ipv4.ts';

export class NaiveZone {
  readonly #values = new Map<string, NonNullable<ZoneChange['value']>>();

  apply(change: ZoneChange): void {
    const key = `${change.kind} ${change.kind === 'network' ? change.name : change.id}`;
    if (change.value) this.#values.set(key, change.value);
    else this.#values.delete(key);
  }

  /** As `shown` of the zone. Aliases are not followed. */
  shown(name: string, type: string, client: ZoneClient): string[] {
    const names = this.#names(client);
    const labels = name.split('.');
    const exists = (owner: string): boolean =>
      [...names.keys()].some((one) => one === owner || one.endsWith(`.${owner}`));
    let records = names.get(name);
    if (!records && !exists(name)) {
      let at = 1;
      while (!exists(labels.slice(at).join('.'))) at++;
      records = names.get(`*.${labels.slice(at).join('.')}`);
      if (!records) return ['NXDOMAIN'];
    }
    const wanted = (records ?? []).filter((record) => type === 'ANY' || record.startsWith(`${type} `));
    return ['NOERROR', ...wanted.map((record) => `${name} ${record}`).sort()];
  }

  #all<T>(kind: string): T[] {
    return [...this.#values].filter(([key]) => key.startsWith(`${kind} `)).map(([, value]) => value as T);
  }

  #names(client: ZoneClient): Map<string, string[]> {
    const names = new Map<string, string[]>([['svc.cluster.local', []]]);
    const add = (name: string, record: string): void => void names.set(name, [...(names.get(name) ?? []), record]);
    const networks = this.#all<ZoneNetwork>('network');
    const own = networks.find(({ name }) => name === client.network);
    const reaches = (of: string | undefined): boolean =>
      of !== undefined &&
      (of === own?.name || own!.routes.some((route) => route.kind === 'network' && route.network === of));
    const vniName = (vni: number | undefined) => networks.find((one) => one.vni === vni)?.name;
    const address = (ip: Uint8Array): string => `${isIp4(ip) ? 'A' : 'AAAA'} ${formatIp(ip)}`;
    for (const { name } of networks) names.set(`${name}.weft`, []);
    const endpoints = this.#all<ZoneEndpoint>('endpoint');
    const isNamed = (name: string, { namespace, network }: ZoneEndpoint): boolean =>
      endpoints.some((one) => one.name === name && one.namespace === namespace && one.network === network);
    for (const endpoint of endpoints) {
      const { name, namespace, network, addresses, hasWildcard, aliases } = endpoint;
      if (!networks.some((one) => one.name === network)) continue;
      names.set(`${namespace}.${network}.weft`, names.get(`${namespace}.${network}.weft`) ?? []);
      if (!reaches(network)) continue;
      for (const ip of addresses) {
        const short = namespace === client.namespace ? [`${name}.${network}.weft`] : [];
        for (const owner of [`${name}.${namespace}.${network}.weft`, ...short])
          for (const at of [owner, ...(hasWildcard ? [`*.${owner}`] : [])]) add(at, address(ip));
        for (const alias of aliases.filter((one) => !isNamed(one, endpoint))) {
          add(`${alias}.${namespace}.${network}.weft`, address(ip));
          if (namespace === client.namespace) add(`${alias}.${network}.weft`, address(ip));
        }
      }
    }
    for (const { name, namespace, vips, replaced, ports, hasWildcard } of this.#all<ServiceUpdate>('service')) {
      // Told as a whole.
      const { addresses, vnis, hostnames, targets } = replaced[0]!.by;
      const backends = vnis.map((vni, at) => {
        const address = addresses.subarray(16 * at, 16 * at + 16);
        return { address, vni, hostname: hostnames[at], targets: targets.map((of) => of[at]!) };
      });
      names.set(`${namespace}.svc.cluster.local`, []);
      const owner = `${name}.${namespace}.svc.cluster.local`;
      const reached = backends.filter((one) => reaches(vniName(one.vni)));
      const own = vips.length > 0 ? vips : reached.map((one) => one.address);
      for (const ip of own) for (const at of [owner, ...(hasWildcard ? [`*.${owner}`] : [])]) add(at, address(ip));
      for (const [column, port] of ports.entries()) {
        const at = `_${port.name}._${port.protocol === IP_TCP ? 'tcp' : 'udp'}.${owner}`;
        if (vips.length > 0) add(at, `SRV ${port.l4Port} ${owner}`);
        for (const one of reached) {
          const target = one.targets[column]!;
          if (target !== 0) add(at, `SRV ${target} ${one.hostname}.${owner}`);
        }
      }
      for (const one of reached) add(`${one.hostname}.${owner}`, address(one.address));
    }
    return names;
  }
}
