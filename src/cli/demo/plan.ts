/** What the demonstration consists of: its hosts with their containers, and where the state is kept. */

export interface Host {
  readonly name: string;
  readonly underlay: string;
  /** With static peers, the underlay addresses of the others. */
  readonly peers: readonly string[];
  /** With static peers, its own shares of the subnets. */
  readonly ranges: readonly string[];
  readonly containers: readonly string[];
}

/** A container that is attached. */
export interface Container {
  readonly name: string;
  readonly host: Host;
  readonly ip4: string;
  readonly ip6: string;
  readonly mac: string;
}

/** What is shown. */
export const scenarioNames = ['basic', 'failover', 'bookinfo'] as const;
export type ScenarioName = (typeof scenarioNames)[number];

export interface Plan {
  readonly hosts: readonly Host[];
  readonly store: 'embedded' | 'etcd';
}

const names = [
  { name: 'alpha', containers: ['web', 'db'] },
  { name: 'beta', containers: ['api', 'cache'] },
  { name: 'gamma', containers: ['auth', 'queue'] },
  { name: 'delta', containers: ['mail', 'search'] },
  { name: 'epsilon', containers: ['cart', 'pay'] },
] as const;

export const FEWEST_HOSTS = 2;
export const MOST_HOSTS = names.length;

export const network = { name: 'demo', subnets: ['10.0.0.0/24', 'fd00::/64'], vni: 100 } as const;

export function planFor(count: number, store: Plan['store']): Plan {
  const chosen = names.slice(0, count);
  const addressOf = (at: number): string => `192.0.2.${at + 1}`;
  return {
    store,
    hosts: chosen.map(({ name, containers }, at) => {
      const hasStore = store === 'etcd';
      const tens = at + 1;
      return {
        name,
        underlay: addressOf(at),
        peers: hasStore
          ? []
          : chosen.map((_, other) => addressOf(other)).filter((address) => address !== addressOf(at)),
        ranges: hasStore ? [] : [`10.0.0.${tens}0-10.0.0.${tens}9`, `fd00::${tens}0-fd00::${tens}9`],
        containers,
      };
    }),
  };
}
