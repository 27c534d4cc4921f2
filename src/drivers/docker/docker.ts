/**
 * Docker's network and IPAM driver: what dockerd asks, one method after the other.
 *
 *   dockerd ─► /run/docker/plugins/weft.sock ─► routes.ts ─► here ─► cluster: an Endpoint like any other
 *
 * dockerd that was killed never says which endpoints and addresses are gone. So when another one begins, what is in no
 * container is removed; it asks again for what it knows. What is in a container goes with the container's namespace.
 */
import type * as z from 'zod';
import type { Endpoint } from '../../cluster/endpoint.ts';
import { PlanAgain } from '../../cluster/plan-again.ts';
import { WeftError } from '../../error.ts';
import { endpointKind } from '../../model/kinds/endpoint.ts';
import { nameOf } from '../../model/name.ts';
import { validate } from '../../model/validate.ts';
import { Driver } from './driver.ts';
import { DockerEndpoints, isOurs } from './endpoints.ts';
import { ADDRESS_SPACE, Ipam, type IpamEnvironment } from './ipam.ts';
import { DockerNetworks } from './networks.ts';
import * as protocol from './protocol.ts';

/** Where dockerd looks for it. */
export const DOCKER_SOCKET = '/run/docker/plugins/weft.sock';

export type DockerOptions = Omit<IpamEnvironment, 'dockerEndpoints'>;

const ACTIVATE = 'Plugin.Activate';
/**
 * What Docker is told if it repeats what it has asked another daemon, or a connection that has ended: it has nothing left to send then.
 */
const EMPTY = 'weft has restarted while Docker asked this, and Docker repeats it without its contents: try again';

/** How often it is looked at what Docker has left. It repeats what was not answered for a quarter of that time. */
const LEFT_TICKS = 60;

export interface Answer {
  /** 200 if there is none. */
  readonly status?: number;
  readonly body: object;
}

interface Method {
  /** It is answered whatever is known of the cluster, and never fails. */
  readonly isConstant?: boolean;
  readonly run: (body: unknown) => Promise<object>;
}

export class Docker {
  readonly #options: DockerOptions;
  readonly #dockerEndpoints = new DockerEndpoints();
  readonly #methods: ReadonlyMap<string, Method>;
  readonly #ipam: Ipam;
  /** How often `keep` was called. */
  #ticks = 0;
  #hasSwept = false;
  /** False as long as there is nothing of Docker's: neither a dockerd nor an endpoint. */
  #isWanted = false;

  constructor(options: DockerOptions) {
    const environment = { ...options, dockerEndpoints: this.#dockerEndpoints };
    const ipam = new Ipam(environment);
    const driver = new Driver({ ...environment, dockerNetworks: new DockerNetworks(options.own) });
    this.#options = options;
    this.#ipam = ipam;
    const { nothing, endpoint } = protocol;
    this.#methods = new Map([
      [ACTIVATE, method(nothing, () => this.#activate())],
      // Docker asks for capabilities once, and does without the driver if it does not get them.
      ['NetworkDriver.GetCapabilities', constant({ Scope: 'local', ConnectivityScope: 'global' })],
      ['NetworkDriver.CreateNetwork', method(protocol.createNetwork, (body) => driver.createNetwork(body))],
      ['NetworkDriver.DeleteNetwork', method(protocol.deleteNetwork, (body) => driver.deleteNetwork(body))],
      ['NetworkDriver.CreateEndpoint', method(protocol.createEndpoint, (body) => driver.createEndpoint(body))],
      ['NetworkDriver.EndpointOperInfo', method(endpoint, (body) => driver.info(body))],
      ['NetworkDriver.DeleteEndpoint', method(endpoint, (body) => driver.deleteEndpoint(body))],
      ['NetworkDriver.Join', method(protocol.join, (body) => driver.join(body))],
      ['NetworkDriver.Leave', method(endpoint, () => driver.leave())],
      ['NetworkDriver.ProgramExternalConnectivity', method(protocol.external, (body) => driver.publish(body))],
      ['NetworkDriver.RevokeExternalConnectivity', method(endpoint, (body) => driver.unpublish(body))],
      // Hosts know each other by weft itself.
      ['NetworkDriver.DiscoverNew', method(nothing, () => ({}))],
      ['NetworkDriver.DiscoverDelete', method(nothing, () => ({}))],
      ['IpamDriver.GetCapabilities', constant({ RequiresMACAddress: false, RequiresRequestReplay: true })],
      [
        'IpamDriver.GetDefaultAddressSpaces',
        constant({ LocalDefaultAddressSpace: ADDRESS_SPACE, GlobalDefaultAddressSpace: ADDRESS_SPACE }),
      ],
      ['IpamDriver.RequestPool', method(protocol.requestPool, (body) => ipam.requestPool(body))],
      ['IpamDriver.ReleasePool', method(protocol.releasePool, () => ipam.releasePool())],
      ['IpamDriver.RequestAddress', method(protocol.requestAddress, (body) => ipam.requestAddress(body))],
      ['IpamDriver.ReleaseAddress', method(protocol.releaseAddress, (body) => ipam.releaseAddress(body))],
    ]);
  }

  /** An endpoint has come, changed or gone. */
  endpointChanged(before: Endpoint | undefined, after: Endpoint | undefined): void {
    this.#dockerEndpoints.endpointChanged(before, after);
    this.#isWanted ||= after !== undefined && isOurs(after);
  }

  get isWanted(): boolean {
    return this.#isWanted;
  }

  /** Undefined if there is no such method. A failure is an answer, too. @param body undefined if the request has none */
  answer(name: string, body: unknown): Promise<Answer> | undefined {
    const method = this.#methods.get(name);
    if (!method) return undefined;
    const answered = async (): Promise<Answer> => {
      // What is not known yet must not look as if it were not there.
      if (!method.isConstant) this.#options.cluster().requireKnown();
      return { body: await method.run(body) };
    };
    return answered().catch((error: unknown) => {
      const { message } = error as Error;
      const why = error instanceof WeftError ? message : `internal error: ${message}`;
      this.#options.onFailure({ method: name, ...(error instanceof WeftError ? { why } : { err: error }) });
      // By the status, Docker knows that there is no driver yet, and asks again when it needs one.
      return { ...refusal(why), ...(name === ACTIVATE && { status: 503 }) };
    });
  }

  /** Call it about once a second, within `serial`: finds the interfaces that Docker has carried into containers. @returns true if there were any */
  async keep(): Promise<boolean> {
    const { carrying } = this.#options.endpoints;
    this.#ipam.begin();
    const hasMoved = await carrying.look();
    if (this.#ticks++ % LEFT_TICKS === 0) this.#releaseLeft();
    if (!this.#hasSwept) {
      this.#hasSwept = true;
      await carrying.sweep();
    }
    return hasMoved;
  }

  #releaseLeft(): void {
    const released = this.#options.cluster().change(() => this.#ipam.releaseLeft());
    released.catch((error: unknown) => this.#options.onFailure({ why: (error as Error).message }));
  }

  /** Another dockerd begins. */
  async #activate(): Promise<object> {
    const { cluster, endpoints, onFailure } = this.#options;
    const { carrying } = endpoints;
    await cluster().change(async () => {
      await carrying.look();
      for (const { name } of carrying.all().filter((endpoint) => !carrying.isInContainer(endpoint))) {
        await carrying.end(name);
        try {
          await cluster().deleteNow(endpointKind, nameOf(name));
        } catch (error) {
          if (error instanceof PlanAgain) throw error;
          onFailure({ endpoint: name, why: (error as Error).message });
        }
      }
      await carrying.sweep();
    });
    this.#ipam.forget();
    return { Implements: ['NetworkDriver', 'IpamDriver'] };
  }
}

/** Docker's two drivers call it differently. */
export function refusal(why: string): Answer {
  return { body: { Err: why, Error: why } };
}

function method<S extends z.ZodType>(schema: S, run: (body: z.output<S>) => object | Promise<object>): Method {
  return {
    run: async (body) => {
      if (body === undefined && schema !== (protocol.nothing as z.ZodType)) throw new WeftError('unreachable', EMPTY);
      return run(validate(schema, body));
    },
  };
}

function constant(answer: object): Method {
  return { isConstant: true, run: async () => answer };
}
