/** What dockerd asks of the driver for a container on the network `blue`, and does for it, in libnetwork's order. */
import type { DockerPlugin } from './docker.ts';
import type { Namespace } from './lab.ts';

export const SUBNET = '10.44.0.0/24';
export const POOL = `blue/${SUBNET}`;
export const NETWORK = 'a'.repeat(64);

export interface Run {
  readonly address?: string;
  readonly mac?: string;
  readonly options?: object;
}

export interface Interface {
  readonly address: string;
  readonly gateway: string;
  /** As it is called where weft has made it. */
  readonly ifname: string;
}

/** What dockerd does for a container. */
export class PlayedDockerd {
  readonly #host: Namespace;
  readonly #plugin: DockerPlugin;

  constructor(host: Namespace, plugin: DockerPlugin) {
    this.#host = host;
    this.#plugin = plugin;
  }

  async request(address = ''): Promise<string> {
    const answer = await this.#plugin.call<{ Address: string }>('IpamDriver.RequestAddress', {
      PoolID: POOL,
      Address: address,
    });
    return answer.Address;
  }

  async release(address: string): Promise<void> {
    await this.#plugin.call('IpamDriver.ReleaseAddress', { PoolID: POOL, Address: address.split('/')[0] });
  }

  create(id: string, address: string, { mac = '', options = {} }: Run = {}) {
    return this.#plugin.call<{ Interface: { MacAddress?: string } }>('NetworkDriver.CreateEndpoint', {
      ...ref(id),
      Interface: { Address: address, AddressIPv6: '', MacAddress: mac },
      Options: { 'com.docker.network.endpoint.exposedports': [], ...options },
    });
  }

  join(id: string, key: string) {
    return this.#plugin.call<{ InterfaceName: { SrcName: string; DstPrefix: string }; Gateway: string }>(
      'NetworkDriver.Join',
      { ...ref(id), SandboxKey: key, Options: {} },
    );
  }

  /** Moves the interface into the container, and configures it, in libnetwork's order. */
  async carry(container: Namespace, { ifname, address, gateway }: Interface): Promise<void> {
    await this.#host.ip(`link set ${ifname} netns ${container.name}`);
    await container.ip(`link set ${ifname} down`);
    await container.ip(`link set ${ifname} name eth0`);
    await container.ip(`address add ${address} dev eth0`);
    await container.ip('link set eth0 up');
    await container.ip(`route add default via ${gateway}`);
  }

  async run(id: string, container: Namespace, run: Run = {}): Promise<Interface> {
    const address = await this.request(run.address);
    await this.create(id, address, run);
    const { InterfaceName, Gateway } = await this.join(id, container.path);
    const made = { ifname: InterfaceName.SrcName, address, gateway: Gateway };
    await this.carry(container, made);
    return made;
  }

  /** What it does with the interface at the end. */
  async bringBack(container: Namespace, { ifname }: Interface): Promise<void> {
    await container.ip('link set eth0 down');
    await container.ip(`link set eth0 name ${ifname}`);
    await container.ip(`link set ${ifname} netns ${this.#host.name}`);
  }

  async stop(id: string, container: Namespace, made: Interface): Promise<void> {
    await this.#plugin.call('NetworkDriver.RevokeExternalConnectivity', ref(id));
    await this.#plugin.call('NetworkDriver.Leave', ref(id));
    await this.bringBack(container, made);
    await this.#plugin.call('NetworkDriver.DeleteEndpoint', ref(id));
    await this.release(made.address);
  }
}

/** What Docker calls an endpoint of that network. */
export function ref(id: string): { NetworkID: string; EndpointID: string } {
  return { NetworkID: NETWORK, EndpointID: id };
}
