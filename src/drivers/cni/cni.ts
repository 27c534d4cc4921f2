/**
 * The CNI plugin's side of the daemon: what a container runtime asks for, one command after the other (CNI specification 1.1).
 *
 *   runtime ─► native/cni/plugin.cc ─► POST /v1/cni ─► here ─► cluster: an Endpoint like any other
 *
 * An attachment is an Endpoint with an annotation that says whose it is. Nothing else is kept: whatever becomes of the endpoint
 * (its namespace goes, somebody deletes it, the host dies) becomes of the attachment.
 */
import { attachment as endpointOf } from '../../cluster/attachment.ts';
import type { Cluster } from '../../cluster/cluster.ts';
import { isHere, poolOf, type Endpoint } from '../../cluster/endpoint.ts';
import type { Network } from '../../cluster/network.ts';
import { WeftError } from '../../error.ts';
import { CNI } from '../../model/endpoint-annotations.ts';
import { endpointKind } from '../../model/kinds/endpoint.ts';
import { DEFAULT_NAMESPACE, idOf, nameOf } from '../../model/name.ts';
import type { EndpointReport } from '../../model/report.ts';
import { attachmentText, endpointName, parseAttachment, type CniAttachment } from './attachment-name.ts';
import { readConfiguration, NEWEST_VERSION, type CniConfiguration } from './configuration.ts';
import { readEnvironment, type CniEnvironment } from './environment.ts';
import { asFailure, CNI_CODES, CniFailure } from './failure.ts';
import { addressesFrom } from './ip-ranges.ts';
import { addResult, dnsOf } from './result.ts';
import { wishesOf } from './wishes.ts';

export interface CniRequest {
  /** True if it was asked before, and its answer was lost: it may have been begun. */
  readonly isAgain: boolean;
  readonly environment: Readonly<Record<string, string>>;
  /** What the runtime wrote to the plugin. */
  readonly config: string;
}

export interface CniAnswer {
  readonly isDone: boolean;
  /** For stdout; empty where the specification wants nothing. */
  readonly text: string;
}

export interface CniOptions {
  /** Is not called before a runtime asks. */
  readonly cluster: () => Pick<Cluster, 'change' | 'applyOrTakeBack' | 'delete'>;
  readonly endpoints: { find(name: string): Endpoint | undefined; report(endpoint: Endpoint): EndpointReport };
  readonly networks: { get(name: string): Network };
  readonly onFailure: (details: object) => void;
}

export class Cni {
  readonly #options: CniOptions;
  /** The endpoints of this host that runtimes have made, by attachment. */
  readonly #made = new Map<string, string>();
  #isKeeping = false;

  constructor(options: CniOptions) {
    this.#options = options;
  }

  /** An endpoint has come, changed or gone. */
  endpointChanged(before: Endpoint | undefined, after: Endpoint | undefined): void {
    const [was, is] = [annotationOf(before), annotationOf(after)];
    if (was !== undefined && was !== is && this.#made.get(was) === before!.name) this.#made.delete(was);
    if (is !== undefined) this.#made.set(is, after!.name);
  }

  /**
   * Call it about once a second: endpoints whose interface is gone are removed. The plugin has deleted it while there was no
   * daemon, or the machine was restarted: nobody will ask for them again.
   */
  async keep(): Promise<void> {
    if (this.#isKeeping) return;
    const { cluster, endpoints, onFailure } = this.#options;
    const isLost = ([, name]: [string, string]): boolean => endpoints.find(name)?.state === 'detached';
    if (![...this.#made].some(isLost)) return;
    this.#isKeeping = true;
    try {
      // One that is just being attached is detached at first.
      await cluster().change(async () => {});
      for (const [text, name] of [...this.#made].filter(isLost)) {
        await this.#delete(text).catch(({ message }: Error) => onFailure({ endpoint: name, why: message }));
      }
    } catch (error) {
      onFailure({ why: (error as Error).message });
    } finally {
      this.#isKeeping = false;
    }
  }

  /** Never throws: a failure is an answer. */
  async answer(request: CniRequest): Promise<CniAnswer> {
    let version: string = NEWEST_VERSION;
    try {
      const configuration = readConfiguration(request.config);
      version = configuration.cniVersion;
      const environment = readEnvironment(request.environment);
      return { isDone: true, text: await this.#run(environment, configuration, request.isAgain) };
    } catch (error) {
      const { code, message, details } = asFailure(error);
      const { CNI_COMMAND: command, CNI_CONTAINERID: container } = request.environment;
      this.#options.onFailure({ command, container, code, why: message });
      const failure = { cniVersion: version, code, msg: message, ...(details && { details }) };
      return { isDone: false, text: `${JSON.stringify(failure)}\n` };
    }
  }

  async #run(environment: CniEnvironment, configuration: CniConfiguration, isAgain: boolean): Promise<string> {
    const { containerId, ifname } = environment;
    const attachment = { configuration: configuration.name, containerId, ifname };
    switch (environment.command) {
      case 'ADD':
        // It was asked before, and its answer was lost.
        if (isAgain) await this.#delete(attachmentText(attachment));
        return this.#options.cluster().change(() => this.#add(attachment, environment, configuration));
      case 'DEL':
        await this.#delete(attachmentText(attachment));
        return '';
      case 'CHECK':
        this.#check(attachment, environment, configuration);
        return '';
      case 'GC':
        await this.#collect(configuration);
        return '';
      case 'STATUS':
        this.#status(configuration);
        return '';
      default:
        return environment.command satisfies never;
    }
  }

  async #add(attachment: CniAttachment, environment: CniEnvironment, configuration: CniConfiguration): Promise<string> {
    const { cluster, endpoints, networks } = this.#options;
    const network = networks.get(networkOf(configuration));
    const text = attachmentText(attachment);
    const made = this.#made.get(text);
    if (made !== undefined) {
      const { containerId, ifname } = attachment;
      throw new CniFailure(
        CNI_CODES.conflict,
        `container ${containerId} has ${ifname} of ${configuration.name} already: it is endpoint "${made}"`,
      );
    }
    const namespace = environment.args.podNamespace ?? DEFAULT_NAMESPACE;
    const isTaken = (name: string): boolean => endpoints.find(idOf({ name, namespace })) !== undefined;
    const name = endpointName(attachment, environment.args.podName, isTaken);
    const wishes = wishesOf(environment, configuration, name);
    const sets = configuration.runtimeConfig?.ipRanges ?? [];
    const endpointId = idOf({ name, namespace });
    const ranges = sets.length > 0 && {
      ip: addressesFrom(sets, { network, endpoint: endpointId, asked: wishes.ip ?? [] }),
    };
    const resource = endpointOf(
      {
        ...wishes,
        ...ranges,
        ...{ name, namespace, network: network.name, netns: environment.netns, ifname: attachment.ifname },
        annotations: { [CNI]: text },
      },
      undefined,
    );
    await cluster().applyOrTakeBack(resource);
    const endpoint = endpoints.find(idOf(resource.metadata))!;
    const { mac, mtu = network.mtu } = endpoints.report(endpoint);
    const addresses = endpoint.addresses.map((ip) => {
      const { gateway, subnet } = poolOf(network, ip, name);
      return { cidr: `${ip}/${subnet.split('/')[1]}`, gateway };
    });
    const gateways = addresses.map(({ gateway }) => gateway);
    const result = addResult(
      configuration.cniVersion,
      { ifname: attachment.ifname, sandbox: environment.netns, mac, mtu, addresses },
      dnsOf(configuration, { gateways, network: network.name, namespace }),
      configuration.prevResult,
    );
    return `${JSON.stringify(result)}\n`;
  }

  /** What is gone is deleted: runtimes ask as often as they like. */
  async #delete(text: string): Promise<void> {
    const made = this.#made.get(text);
    if (made === undefined) return;
    try {
      await this.#options.cluster().delete(endpointKind, nameOf(made));
    } catch (error) {
      // Its namespace has gone in the same moment.
      if (!(error instanceof WeftError && error.code === 'not_found')) throw error;
    }
  }

  #check(attachment: CniAttachment, { netns }: CniEnvironment, { prevResult }: CniConfiguration): void {
    const { endpoints } = this.#options;
    const { containerId, ifname, configuration } = attachment;
    const made = this.#made.get(attachmentText(attachment));
    const endpoint = made === undefined ? undefined : endpoints.find(made);
    if (!endpoint) {
      throw new CniFailure(CNI_CODES.unknownContainer, `container ${containerId} has no ${ifname} of ${configuration}`);
    }
    const { state, problems = [], addresses } = endpoints.report(endpoint);
    const broken = (why: string): never => {
      throw new CniFailure(CNI_CODES.system, `endpoint "${made}": ${why}`);
    };
    if (state !== 'attached') broken(`its interface ${ifname} is ${state === 'waiting' ? 'not open' : 'gone'}`);
    if (problems.length > 0) broken(problems.join('; '));
    if (!prevResult) throw new CniFailure(CNI_CODES.configuration, 'prevResult is missing: it is the result of ADD');
    // Plugins behind this one may have changed its MAC or its MTU, and added addresses.
    const { interfaces = [], ips = [] } = prevResult as { interfaces?: unknown; ips?: unknown };
    const isOwn = (one: unknown): boolean => isAt(one, { name: ifname, sandbox: netns });
    if (!Array.isArray(interfaces) || !interfaces.some(isOwn))
      broken(`prevResult has no interface ${ifname} in ${netns}`);
    const told = (Array.isArray(ips) ? ips : []).map(
      (one: { address?: unknown }) => String(one?.address).split('/')[0],
    );
    const missing = addresses.filter((address) => !told.includes(address));
    if (missing.length > 0) broken(`prevResult lacks its address ${missing.join(', ')}`);
  }

  /** Removes what no runtime knows any more of those that were made by this configuration here; goes on past failures. */
  async #collect(configuration: CniConfiguration): Promise<void> {
    const valid = configuration['cni.dev/valid-attachments'] ?? configuration['cni.dev/attachments'];
    if (!valid) throw new CniFailure(CNI_CODES.configuration, 'cni.dev/valid-attachments is missing');
    const known = new Set(valid.map(({ containerID, ifname }) => `${containerID}/${ifname}`));
    const failures: string[] = [];
    for (const text of [...this.#made.keys()]) {
      const { configuration: name, containerId, ifname } = parseAttachment(text)!;
      if (name !== configuration.name || known.has(`${containerId}/${ifname}`)) continue;
      try {
        await this.#delete(text);
      } catch (error) {
        failures.push(`${containerId} ${ifname}: ${(error as Error).message}`);
      }
    }
    if (failures.length > 0) {
      throw new CniFailure(CNI_CODES.system, `${failures.length} could not be removed`, failures.join('; '));
    }
  }

  #status(configuration: CniConfiguration): void {
    const notReady = (why: string): never => {
      throw new CniFailure(CNI_CODES.notReady, why);
    };
    let network: Network | undefined;
    try {
      network = this.#options.networks.get(networkOf(configuration));
    } catch (error) {
      notReady((error as Error).message);
    }
    const full = network!.pools.filter(({ free }) => free === 0).map(({ subnet }) => subnet);
    if (full.length > 0) notReady(`network "${network!.name}" has no free address in ${full.join(', ')}`);
  }
}

function networkOf({ network, name }: CniConfiguration): string {
  return network ?? name;
}

/** Undefined if it is not of this host, or no runtime has made it. */
function annotationOf(endpoint: Endpoint | undefined): string | undefined {
  const text = endpoint && isHere(endpoint) ? endpoint.resource.metadata.annotations?.[CNI] : undefined;
  return text !== undefined && parseAttachment(text) ? text : undefined;
}

function isAt(one: unknown, wanted: Readonly<Record<string, string>>): boolean {
  if (typeof one !== 'object' || one === null) return false;
  return Object.entries(wanted).every(([key, value]) => (one as Record<string, unknown>)[key] === value);
}
