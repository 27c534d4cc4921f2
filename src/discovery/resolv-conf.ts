/**
 * /etc/netns/NAME/resolv.conf: with it, what runs in a named network namespace by `ip netns exec` asks weft for names
 * (ip-netns(8)). Namespaces that are known by a path elsewhere or a pid have their files from whoever made them.
 *
 * The file of a namespace belongs to one of its endpoints, best to one whose network has an outside. It is removed with the
 * last one, and when weft stops, since nobody answers at the gateway then; the next start writes it again. A file that
 * somebody else has written is never touched: weft knows its own by how they begin.
 */
import { chmodSync, lstatSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isHere, type Endpoint } from '../cluster/endpoint.ts';
import type { Network } from '../cluster/network.ts';
import { searchPath } from './service-view.ts';

const ROOT = '/etc/netns';
/** How the first line begins, also of files of earlier versions. */
const OURS = '# Written by weft for the endpoint that is attached here, ';
const UNTIL = 'and removed when it is detached or weft stops.';
const NAMED = /^\/(?:var\/)?run\/netns\/([^/]+)$/;
/** Names of services of the own namespace, of any, also with `.svc`, and of endpoints are tried before what is outside. */
const NDOTS = 5;

export interface ResolvConfsEnvironment {
  readonly networks: { find(name: string): Network | undefined };
  readonly endpoints: { find(name: string): Endpoint | undefined };
  /** Does something in another turn of the event loop. */
  readonly later: (work: () => void) => void;
  readonly warn: (message: string, details: object) => void;
  readonly root?: string;
}

export class ResolvConfs {
  readonly #environment: ResolvConfsEnvironment;
  readonly #root: string;
  /** By endpoint: the name of its namespace; and the endpoints of each. */
  readonly #places = new Map<string, string>();
  readonly #endpoints = new Map<string, Set<string>>();
  /** What each file says, as it was written; undefined: it could not be, and that was told. */
  readonly #written = new Map<string, string | undefined>();
  readonly #changed = new Set<string>();
  /** True if the directory of all of them was not there before. */
  #hasMadeRoot = false;
  #isClosed = false;

  constructor(environment: ResolvConfsEnvironment) {
    this.#environment = environment;
    this.#root = environment.root ?? ROOT;
  }

  /** An endpoint has come, changed or gone. */
  endpointChanged(name: string): void {
    const path = this.#environment.endpoints.find(name)?.local?.netns.path;
    const place = path === undefined ? undefined : NAMED.exec(path)?.[1];
    const before = this.#places.get(name);
    if (before !== undefined && before !== place) this.#note(before);
    if (place === undefined) return;
    this.#places.set(name, place);
    this.#endpoints.set(place, (this.#endpoints.get(place) ?? new Set()).add(name));
    this.#note(place);
  }

  /** Takes back what was written, also by a daemon that was killed. A file that another daemon has written meanwhile is its own. */
  close(): void {
    this.#isClosed = true;
    for (const place of new Set([...this.#endpoints.keys(), ...this.#written.keys()])) {
      try {
        const directory = join(this.#root, place);
        removeOwn(directory, join(directory, 'resolv.conf'), this.#written.get(place));
      } catch (error) {
        this.#warn('the resolv.conf of a namespace cannot be removed, and leads to nobody', place, error);
      }
    }
    if (this.#hasMadeRoot) removeEmpty(this.#root);
  }

  #warn(message: string, netns: string, error: unknown): void {
    this.#environment.warn(message, { netns, error: (error as Error).message });
  }

  #note(place: string): void {
    if (this.#changed.size === 0) this.#environment.later(() => this.#keepAll());
    this.#changed.add(place);
  }

  #keepAll(): void {
    if (this.#isClosed) return;
    for (const place of this.#changed) {
      try {
        this.#keep(place);
      } catch (error) {
        if (this.#written.has(place) && this.#written.get(place) === undefined) continue;
        this.#written.set(place, undefined);
        this.#warn('names are not asked for at weft in a namespace: its resolv.conf cannot be written', place, error);
      }
    }
    this.#changed.clear();
  }

  #keep(place: string): void {
    const own = this.#endpoints.get(place) ?? new Set();
    const found = [...own].sort().flatMap((name) => this.#attached(name, place));
    const [first] = [...found.filter(({ network }) => network.resource.spec.outside), ...found];
    const directory = join(this.#root, place);
    const path = join(directory, 'resolv.conf');
    if (!first) {
      this.#written.delete(place);
      this.#endpoints.delete(place);
      return removeOwn(directory, path);
    }
    const text = resolvConf(first.endpoint, first.network);
    if (this.#written.get(place) === text || isOfOthers(path)) return;
    const made = mkdirSync(directory, { recursive: true });
    this.#hasMadeRoot ||= made === this.#root;
    for (const one of [this.#root, directory]) chmodSync(one, 0o755);
    writeFileSync(`${path}.weft`, text);
    chmodSync(`${path}.weft`, 0o644);
    renameSync(`${path}.weft`, path);
    this.#written.set(place, text);
  }

  /** An endpoint of the namespace with its network; forgotten if it is there no more. */
  #attached(name: string, place: string): { endpoint: Endpoint; network: Network }[] {
    const endpoint = this.#environment.endpoints.find(name);
    const network = endpoint && this.#environment.networks.find(endpoint.resource.spec.network);
    const isThere = endpoint && isHere(endpoint) && endpoint.state !== 'detached' && this.#places.get(name) === place;
    if (isThere && network) return [{ endpoint, network }];
    if (!isThere) {
      this.#endpoints.get(place)?.delete(name);
      if (this.#places.get(name) === place) this.#places.delete(name);
    }
    return [];
  }
}

function resolvConf({ resource, addresses }: Endpoint, { name, pools }: Network): string {
  const { namespace } = resource.metadata;
  const gateways = pools.filter((pool) => addresses.some((ip) => pool.contains(ip))).map(({ gateway }) => gateway);
  const lines = [
    `${OURS}${UNTIL}`,
    ...gateways.map((gateway) => `nameserver ${gateway}`),
    `search ${searchPath(namespace, name).join(' ')}`,
    `options ndots:${NDOTS}`,
  ];
  return `${lines.join('\n')}\n`;
}

/** @param text what it says, if that is known */
function removeOwn(directory: string, path: string, text?: string): void {
  if (!isOwn(path) || (text !== undefined && readFileSync(path, 'utf8') !== text)) return;
  rmSync(path);
  removeEmpty(directory);
}

function removeEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // It has other files.
  }
}

function isOfOthers(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined && !isOwn(path);
}

function isOwn(path: string): boolean {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isFile()) return false;
  return readFileSync(path, 'utf8').startsWith(OURS);
}
