/**
 * Docker's network driver: endpoints of containers on weft's networks.
 *
 *   CreateEndpoint                 the endpoint that holds the address gets what Docker and the user say of it
 *   Join                           its interface is made, and Docker carries it into the container (cluster/carrying.ts)
 *   ProgramExternalConnectivity    its published ports
 *   Leave, DeleteEndpoint          the interface goes; the address is held until the IPAM driver is told (`ipam.ts`)
 */
import { attachment as endpointOf, type AttachOptions } from '../../cluster/attachment.ts';
import { carriedName } from '../../cluster/carrying.ts';
import { heldText, isOnItsWay, poolOf, type Endpoint } from '../../cluster/endpoint.ts';
import { WeftError } from '../../error.ts';
import { DOCKER } from '../../model/endpoint-annotations.ts';
import { endpointKind } from '../../model/kinds/endpoint.ts';
import { idOf, nameOf } from '../../model/name.ts';
import type { PublishOptions } from '../../model/publish.ts';
import { quote } from '../../model/value.ts';
import { asName } from '../name.ts';
import { idText } from './endpoints.ts';
import { addressOf, ADDRESS_SPACE, NOWHERE, type IpamEnvironment } from './ipam.ts';
import type { DockerNetworks } from './networks.ts';
import type { CreateEndpoint, CreateNetwork, EndpointRef, External, Join } from './protocol.ts';

export interface DriverEnvironment extends IpamEnvironment {
  readonly dockerNetworks: DockerNetworks;
}

/** What Docker calls interfaces in containers: this, and a number. */
const PREFIX = 'eth';
const UDP = 17;

export class Driver {
  readonly #environment: DriverEnvironment;

  constructor(environment: DriverEnvironment) {
    this.#environment = environment;
  }

  async createNetwork({ NetworkID, Options, IPv4Data, IPv6Data }: CreateNetwork): Promise<object> {
    const { network: name, isInternal } = Options;
    if (name === undefined) {
      throw new WeftError(
        'invalid',
        'the option network is missing: docker network create -d weft --ipam-driver weft --ipam-opt network=NAME -o network=NAME …',
      );
    }
    const network = this.#environment.networks.get(name);
    if (isInternal && network.resource.spec.outside) {
      throw new WeftError('invalid', `--internal is not accepted: network "${name}" has an outside, use one without`);
    }
    for (const { AddressSpace, Pool } of [...IPv4Data, ...IPv6Data]) {
      if (AddressSpace !== ADDRESS_SPACE) {
        throw new WeftError(
          'invalid',
          'addresses are not weft’s: give --ipam-driver weft --ipam-opt network=NAME, too',
        );
      }
      if (network.pools.some(({ subnet }) => subnet === Pool)) continue;
      const subnets = network.pools.map(({ subnet }) => subnet).join(' and ');
      throw new WeftError(
        'invalid',
        `subnet ${quote(Pool)} is not of network "${name}", which has ${subnets}: give both options network the same name`,
      );
    }
    await this.#environment.dockerNetworks.set(NetworkID, name);
    return {};
  }

  async deleteNetwork({ NetworkID }: { readonly NetworkID: string }): Promise<object> {
    await this.#environment.dockerNetworks.delete(NetworkID);
    return {};
  }

  async createEndpoint(request: CreateEndpoint): Promise<object> {
    const { cluster, dockerNetworks, endpoints, dockerEndpoints } = this.#environment;
    const network = await dockerNetworks.nameOf(request.NetworkID);
    const { Address, AddressIPv6, MacAddress: mac } = request.Interface;
    const ip = [Address, AddressIPv6].filter((address) => address !== '').map(addressOf);
    if (ip.length === 0) throw new WeftError('invalid', 'Interface.Address is missing');
    return cluster().change(async () => {
      const names = new Set(ip.flatMap((address) => dockerEndpoints.at(network, address) ?? []));
      const held = [...names].map((name) => endpoints.find(name)!);
      for (const { name, resource } of held) {
        const of = resource.metadata.annotations![DOCKER]!;
        if (of.startsWith('held ') || of === idText(request)) continue;
        throw new WeftError('conflict', `ip ${ip.join(' and ')} is that of endpoint "${name}"`);
      }
      const wishes = this.#wishesOf(request, held[0]);
      const [first] = held;
      const isSame =
        first !== undefined &&
        first.name === idOf(wishes) &&
        ip.every((address) => first.addresses.includes(address)) &&
        (!mac || mac === first.mac);
      if (!isSame) for (const { name } of held) await cluster().deleteNow(endpointKind, nameOf(name));
      const resource = endpointOf(
        {
          ...wishes,
          ...{ network, ip, netns: NOWHERE },
          ...(mac && { mac }),
          ifname: first?.resource.spec.interface ?? carriedName(this.#environment.newId()),
          annotations: { [DOCKER]: idText(request) },
        },
        isSame ? first.resource : undefined,
      );
      try {
        await cluster().applyOrTakeBack(resource);
      } catch (error) {
        // Docker gives the address back next, which must not be somebody else's by then.
        if (!isSame) for (const hold of held) await this.#holdAgain(hold);
        throw error;
      }
      const made = endpoints.find(idOf(resource.metadata))!;
      // What was given must not be answered.
      return { Interface: mac ? {} : { MacAddress: made.mac } };
    });
  }

  async #holdAgain({ name, resource, addresses }: Endpoint): Promise<void> {
    const { cluster, networks, onFailure } = this.#environment;
    const { network, interface: ifname } = resource.spec;
    const { subnet } = poolOf(networks.get(network), addresses[0]!, name);
    const annotations = { [DOCKER]: heldText(subnet, 'afterwards') };
    const hold = { ...nameOf(name), network, ip: addresses, netns: NOWHERE, ifname, annotations };
    await cluster()
      .applyOrTakeBack(endpointOf(hold, undefined))
      .catch(({ message }: Error) => onFailure({ endpoint: name, why: message }));
  }

  info(ref: EndpointRef): object {
    const name = this.#environment.dockerEndpoints.find(ref);
    return { Value: name === undefined ? {} : { 'weft.dev/name': name } };
  }

  async deleteEndpoint(ref: EndpointRef): Promise<object> {
    const { cluster, endpoints, networks, dockerEndpoints } = this.#environment;
    return cluster().change(async () => {
      const endpoint = endpoints.find(dockerEndpoints.find(ref) ?? '');
      if (!endpoint) return {};
      await endpoints.carrying.end(endpoint.name);
      const network = networks.get(endpoint.resource.spec.network);
      const { subnet } = poolOf(network, endpoint.addresses[0]!, endpoint.name);
      await this.#change(endpoint, {
        netns: NOWHERE,
        publish: [],
        annotations: { [DOCKER]: heldText(subnet, 'afterwards') },
      });
      return {};
    });
  }

  async join({ SandboxKey, ...ref }: Join): Promise<object> {
    const { cluster, endpoints, networks } = this.#environment;
    return cluster().change(async () => {
      const { name } = this.#get(ref);
      await endpoints.carrying.look();
      const endpoint = endpoints.find(name)!;
      // Docker may ask again if it has got no answer.
      if (!isOnItsWay(endpoint)) {
        await endpoints.carrying.end(name);
        await endpoints.carrying.begin(name);
      }
      await this.#change(endpoints.find(name)!, { netns: SandboxKey });
      const network = networks.get(endpoint.resource.spec.network);
      const gateway = (isIp6: boolean): string => {
        const address = endpoint.addresses.find((ip) => ip.includes(':') === isIp6);
        return address === undefined ? '' : poolOf(network, address, name).gateway;
      };
      return {
        InterfaceName: { SrcName: endpoint.resource.spec.interface, DstPrefix: PREFIX },
        Gateway: gateway(false),
        GatewayIPv6: gateway(true),
      };
    });
  }

  /** Docker brings the interface back; `DeleteEndpoint` or another `Join` removes it. */
  leave(): object {
    return {};
  }

  async publish({ Options: mappings, ...ref }: External): Promise<object> {
    const publish = mappings.map(({ Proto, Port, HostIP, HostPort }): PublishOptions => {
      if (HostPort === 0) {
        throw new WeftError(
          'invalid',
          `-p ${Port}: the host's port is missing, and weft chooses none: -p HOSTPORT:${Port}`,
        );
      }
      const protocol = Proto === UDP ? 'UDP' : 'TCP';
      return { hostPort: HostPort, port: Port, protocol, ...(HostIP !== '' && { hostIP: HostIP }) };
    });
    await this.#environment.cluster().change(() => this.#change(this.#get(ref), { publish }));
    return {};
  }

  async unpublish(ref: EndpointRef): Promise<object> {
    const { cluster, endpoints, dockerEndpoints } = this.#environment;
    await cluster().change(async () => {
      const endpoint = endpoints.find(dockerEndpoints.find(ref) ?? '');
      if (endpoint) await this.#change(endpoint, { publish: [] });
    });
    return {};
  }

  /** What the user says of an endpoint with `driver-opt`. Without a name, it has that of the one that holds its address. */
  #wishesOf({ EndpointID, Options }: CreateEndpoint, held: Endpoint | undefined) {
    const { 'weft.dev/labels': labels, 'weft.dev/namespace': namespace, 'weft.dev/aliases': aliases } = Options;
    const own = Options['weft.dev/name'] ?? held?.resource.metadata.name ?? asName(`docker-${EndpointID.slice(0, 8)}`);
    const others = (aliases ?? '').split(',').flatMap((alias) => asName(alias) || []);
    return {
      name: own,
      ...(namespace !== undefined && { namespace }),
      ...(labels && { labels }),
      ...(others.length > 0 && { aliases: others }),
    } satisfies Partial<AttachOptions>;
  }

  /** @throws WeftError('not_found') */
  #get(ref: EndpointRef): Endpoint {
    const { endpoints, dockerEndpoints } = this.#environment;
    const endpoint = endpoints.find(dockerEndpoints.find(ref) ?? '');
    if (!endpoint) throw new WeftError('not_found', `weft has no endpoint of Docker's ${quote(ref.EndpointID)}`);
    return endpoint;
  }

  async #change(
    { resource }: Endpoint,
    change: Pick<AttachOptions, 'netns' | 'publish' | 'annotations'>,
  ): Promise<void> {
    const { name, namespace } = resource.metadata;
    const { network, netns } = resource.spec;
    const at = netns === undefined ? {} : { netns };
    await this.#environment
      .cluster()
      .applyOrTakeBack(endpointOf({ name, namespace, network, ...at, ...change }, resource));
  }
}
