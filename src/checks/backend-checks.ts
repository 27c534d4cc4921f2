/**
 * Active health: the checks of the backends on this host, of services that ask for them. The thread of weft's own sockets makes
 * them (`server.ts`), and says when a backend becomes unhealthy or healthy; who is unhealthy is known here.
 *
 *   services, ports of this host ─► what is checked ─► thread ─► who is unhealthy ─► all hosts (`failed-checks.ts`)
 *
 * A backend is reached through the port of its endpoint, whatever its network. When the thread starts again, it is told everything,
 * and what it had found out holds until it has found out more.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { formatIp, isIp4, sameBytes } from '../flow/types.ts';
import type { CheckTarget } from '../health/checker.ts';
import type { ServerFeed, ServerSpec } from '../internal/server.ts';
import { idOf, nameOf } from '../model/name.ts';
import { packageRoot } from '../package.ts';
import { clientAddress, type SocketClient } from '../table/clients.ts';
import type { Backend, Service } from '../table/service.ts';
import type { Topology } from '../table/topology.ts';
import type { CheckChange, CheckResult } from './messages.ts';

/** The code of the server: a bundle of its own, or the source where TypeScript is loaded as it is. */
const MODULE = import.meta.url.endsWith('.ts')
  ? new URL('server.ts', import.meta.url)
  : pathToFileURL(join(packageRoot, 'dist/checks/server.js'));
/** How many changes the thread is told of at once. */
const PIECE = 200;

/** What a check has found out of a backend of this host. */
export interface BackendVerdict {
  /** The id of the service. */
  readonly service: string;
  /** Of the backend, as text. */
  readonly address: string;
  /** Why it is unhealthy; undefined if it is not, or nobody checks it any more. */
  readonly why: string | undefined;
}

export interface BackendChecksOptions {
  readonly topology: Pick<Topology, 'clients' | 'port'>;
  readonly hostName: string;
  /** Does something in another turn of the event loop. */
  readonly later: (work: () => void) => void;
  readonly onVerdict: (verdict: BackendVerdict) => void;
}

interface Checked {
  readonly target: CheckTarget;
  readonly service: string;
  readonly address: string;
  why: string | undefined;
}

export class BackendChecks implements ServerFeed {
  readonly #options: BackendChecksOptions;
  /** Those that ask for checks. */
  readonly #services = new Map<string, Service>();
  readonly #checked = new Map<string, Checked>();
  /** By service: what is checked of it. */
  readonly #ofService = new Map<string, ReadonlySet<string>>();
  /** What the thread does not know yet. */
  readonly #news = new Set<string>();
  /** The clients that endpoints of this host are, and back. */
  readonly #clients = new Map<string, number>();
  readonly #endpoints = new Map<number, string>();
  #onNews: () => void = () => {};
  #isPlanned = false;

  constructor(options: BackendChecksOptions) {
    this.#options = options;
    const { clients } = options.topology;
    const added = ({ endpoint, id }: SocketClient): void => {
      this.#clients.set(endpoint, id);
      this.#endpoints.set(id, endpoint);
    };
    for (const client of clients.all()) added(client);
    clients.watch({
      added: (client) => {
        added(client);
        this.#followPorts();
      },
      removed: (id) => {
        const endpoint = this.#endpoints.get(id)!;
        this.#endpoints.delete(id);
        if (this.#clients.get(endpoint) === id) this.#clients.delete(endpoint);
        this.#followPorts();
      },
    });
  }

  /** For the thread of the sockets: it listens nowhere. */
  get server(): ServerSpec {
    return { listening: [], module: MODULE.href, feed: this, onSaid: (result) => this.#take(result as CheckResult) };
  }

  /** How many backends are checked, and how many of these are unhealthy. */
  get statistics(): { readonly checked: number; readonly failing: number } {
    let failing = 0;
    for (const { why } of this.#checked.values()) if (why !== undefined) failing++;
    return { checked: this.#checked.size, failing };
  }

  setService(service: Service): void {
    if (!service.check && !this.#services.has(service.id)) return;
    if (service.check) this.#services.set(service.id, service);
    else this.#services.delete(service.id);
    this.#follow(service.id);
  }

  removeService(id: string): void {
    if (this.#services.delete(id)) this.#follow(id);
  }

  restart(onNews: () => void): void {
    this.#onNews = onNews;
    this.#news.clear();
    for (const id of this.#checked.keys()) this.#news.add(id);
  }

  take(): readonly CheckChange[] {
    const piece: CheckChange[] = [];
    for (const id of this.#news) {
      if (piece.length === PIECE) break;
      this.#news.delete(id);
      const checked = this.#checked.get(id);
      piece.push(checked ? { kind: 'set', target: checked.target } : { kind: 'remove', id });
    }
    return piece;
  }

  #take({ id, why: failure }: CheckResult): void {
    const checked = this.#checked.get(id);
    // It may be about what was checked before.
    if (!checked) return;
    const { service, address, target } = checked;
    const why = failure && `${target.type.toUpperCase()} port ${target.l4Port}: ${failure}`;
    if (checked.why === why) return;
    checked.why = why;
    this.#options.onVerdict({ service, address, why });
  }

  /** A port has come or gone: whoever is checked may be reached otherwise. */
  #followPorts(): void {
    if (this.#isPlanned || this.#services.size === 0) return;
    this.#isPlanned = true;
    this.#options.later(() => {
      this.#isPlanned = false;
      for (const id of this.#services.keys()) this.#follow(id);
    });
  }

  #follow(id: string): void {
    const service = this.#services.get(id);
    const after = new Map((service ? this.#targetsOf(service) : []).map((checked) => [checked.target.id, checked]));
    for (const gone of this.#ofService.get(id) ?? []) if (!after.has(gone)) this.#end(gone);
    if (after.size > 0) this.#ofService.set(id, new Set(after.keys()));
    else this.#ofService.delete(id);
    for (const [key, checked] of after) {
      const before = this.#checked.get(key);
      if (before && isSame(before.target, checked.target)) continue;
      // Until its next result, it is what it was.
      this.#checked.set(key, { ...checked, why: before?.why });
      this.#tell(key);
    }
  }

  #end(id: string): void {
    const { service, address, why } = this.#checked.get(id)!;
    this.#checked.delete(id);
    this.#tell(id);
    if (why !== undefined) this.#options.onVerdict({ service, address, why: undefined });
  }

  #tell(id: string): void {
    this.#news.add(id);
    this.#onNews();
  }

  #targetsOf({ id: service, backends, check }: Service): Checked[] {
    const { targets, ...settings } = check!;
    return backends.flatMap((backend, at) => {
      const l4Port = targets[at] ?? 0;
      const reached = l4Port === 0 ? undefined : this.#reached(backend);
      if (reached === undefined) return [];
      const address = formatIp(backend.address);
      return [
        {
          service,
          address,
          why: undefined,
          target: { id: `${service}/${address}`, owner: service, address: reached, l4Port, ...settings },
        },
      ];
    });
  }

  /** The address by which weft's own sockets reach a backend; undefined if it is not on this host. */
  #reached({ endpoint, host, address }: Backend): string | undefined {
    const { hostName, topology } = this.#options;
    if (endpoint === undefined || host !== hostName) return undefined;
    const client = this.#clients.get(idOf(nameOf(endpoint)));
    const portNo = client === undefined ? undefined : topology.clients.portOf(client);
    const port = portNo === undefined ? undefined : topology.port(portNo);
    if (client === undefined || !port) return undefined;
    const isV4 = isIp4(address);
    const turn = port.addresses.filter((ip) => isIp4(ip) === isV4).findIndex((ip) => sameBytes(ip, address));
    return turn < 0 ? undefined : formatIp(clientAddress(client, isV4, turn));
  }
}

function isSame(a: CheckTarget, b: CheckTarget): boolean {
  return (Object.keys(a) as (keyof CheckTarget)[]).every((key) => a[key] === b[key]);
}
