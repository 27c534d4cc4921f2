/** The services of `PipelineDecider`: their backends are its workloads, and others on another host, outside and nowhere. */
import { parseIp, type Vni } from '../../src/flow/types.ts';
import { prefixOf } from '../../src/cluster/routing.ts';
import type { Services } from '../../src/table/services.ts';
import { randomService } from '../support/random-services.ts';
import { inTurn, type Random } from '../support/random.ts';
import { backend } from '../support/services.ts';

export const HOST = 'here';
export const ZONE = 'near';
export const RANGES = ['10.96.0.0/16', 'fd96::/64'].map(prefixOf);
/** The addresses of services, and some that no service ever has. */
export const VIPS = [1, 2, 9].map((last) => ({ ip4: `10.96.0.${last}`, ip6: `fd96::${last}` }));

const here = { host: HOST, zone: ZONE };
const there = { host: 'there', zone: 'far' };
const [first, second] = [1, 100] as [Vni, Vni];
const possible = [
  ...['10.0.0.2', 'fd00::2', '10.0.0.4', 'fd00::4'].map((ip) => backend(ip, { vni: first, ...here })),
  ...['10.0.1.5', 'fd01::5'].map((ip) => backend(ip, { vni: second, ...here })),
  ...['10.0.0.7', 'fd00::7'].map((ip) => backend(ip, { vni: first, ...there })),
  // Nobody has this one.
  backend('10.0.0.8', { vni: first, ...there }),
  ...['198.51.100.1', '2001:db8:99::1'].map((ip) => backend(ip, { vni: undefined })),
];

const remote = possible.filter(({ host }) => host === there.host);
/** That the datapath chooses backends by a table. */
const byTable = { balancing: 'maglev', affinityMs: undefined, maxConnections: undefined } as const;
/**
 * What services are like, each in turn: some of any kind, one that is soon full, one with backends on another host alone, and
 * one for whose connections the datapath chooses backends.
 */
const kinds = [
  { given: { possible } },
  { given: { possible, share: 0.3, maxConnections: 1 } },
  { given: { possible, share: 0.9 } },
  { given: { possible: remote, share: 0.9 } },
  { given: { possible, share: 0.9 }, fixed: byTable },
];

/** Changes one of them at random. Two may have the same addresses. @param turn grows by one with each change */
export function changeServices(random: Random, services: Services, nowMs: number, turn: number): void {
  const which = random.int(3);
  const id = `default/s${which}`;
  const kind = random.int(10);
  if (kind === 0) return services.remove(id);
  if (kind <= 2) {
    const detail = random.chance(0.5) ? 'refused' : undefined;
    const { address } = random.pick(possible);
    return services.setHealth(id, random.pick(['ejected', 'check_failed']), [[address, detail]]);
  }
  const { ip4, ip6 } = VIPS[which % 2]!;
  const vips = [ip4, ip6].map(parseIp);
  const { given, fixed } = inTurn<(typeof kinds)[number]>(kinds, turn);
  services.set({ ...randomService(random, { id, vips, ...given }), ...fixed }, nowMs);
}
