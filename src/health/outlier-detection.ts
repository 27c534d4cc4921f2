/**
 * Passive health: whether connections to the backends of a service come about, as the switch sees anyway, and which backends
 * are ejected because they do not (`outlier.ts`). No packet costs more for it: the datapath keeps in the record of each
 * connection what its two ends have sent, and that is read here some times a second, as long as there are new ones.
 *
 *   opened ─► watched ─┬─ its backend has answered             ─► it works
 *                      ├─ its backend has sent a reset instead ─► it has failed
 *                      ├─ an ICMP error came back              ─► it has failed
 *                      ├─ nothing has come for two seconds     ─► it has failed, if it is TCP
 *                      └─ it is over before that               ─► nothing is known
 *
 * Failures of a single client count only where nobody else comes (`witnesses.ts`), and none of one that policies deny: the host of the
 * backend may answer that by a reset in its name.
 *
 * It stands between the table of connections and the services, and watches those of services that ask for it. A service has
 * a pool from its first connection on, so that most of many services cost nothing.
 */
import {
  OUTSIDE,
  SEEN_ACK,
  SEEN_RST,
  SEEN_SYN,
  type ConnectionRecords,
  type ConnectionTuples,
  type ProtocolTuple,
} from '../flow/connection.ts';
import { bytesId } from '../flow/key.ts';
import type { Vni } from '../flow/types.ts';
import type { Backend, OutlierSettings, Service } from '../table/service.ts';
import type { ClientOrigin } from '../table/service-keys.ts';
import type { Choice } from '../table/service-choices.ts';
import type { Services } from '../table/services.ts';
import { OutlierPool, type ConnectionFailure } from './outlier.ts';
import { Witnesses } from './witnesses.ts';

/** A SYN that is lost is sent again after a second. Who does not answer that one either is not there. */
const ANSWER_WITHIN_MS = 2000;
/** How often connections are looked at, while some are watched or backends are ejected. */
const LOOK_MS = 50;
/** How many connections are watched, and how many of them are looked at each time: takes about a millisecond. */
const MOST_WATCHED = 16_384;
const MOST_LOOKED = 4096;
const TCP = 6;

export interface OutlierDetectionOptions {
  readonly records: Pick<ConnectionRecords, 'protocol' | 'state' | 'seen' | 'read'>;
  readonly services: Services;
  /** All addresses of the workload with this address in this network, including this one. */
  readonly addressesWith: (vni: Vni, ip: Uint8Array) => readonly Uint8Array[];
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Milliseconds since the epoch, to say when an ejection is over. */
  readonly wallClock: () => number;
  /** Something is to be looked at in so many milliseconds. Not called again before `look`. */
  readonly onWork: (delayMs: number) => void;
  readonly onChange: (change: EjectionChange) => void;
}

/** A backend is ejected, or back. */
export interface EjectionChange {
  /** `NAMESPACE/NAME` */
  readonly service: string;
  readonly backend: Backend;
  /** Why it is ejected, and until when; undefined if it is back. */
  readonly why: string | undefined;
}

interface WatchedService {
  readonly id: string;
  /** By address, as `bytesId`. */
  readonly pool: OutlierPool<string>;
  settings: OutlierSettings;
  readonly members: Map<string, Backend>;
  readonly witnesses: Witnesses<string>;
  /** Why each of them is ejected. */
  readonly why: Map<string, string>;
  /** What is in force; nobody is ejected in a panic. */
  readonly inForce: Map<string, Backend>;
}

interface WatchedConnection {
  readonly of: WatchedService;
  readonly backend: string;
  readonly client: string;
  readonly openedAtMs: number;
}

/** What the table of connections asks services, and tells them. */
type Told = 'opened' | 'closed' | 'recovered' | 'passOver' | 'reopened' | 'tableFor' | 'claimed';

export class OutlierDetection implements Pick<Services, Told> {
  /** True if policies deny a connection, on whichever host they do. Whoever knows all of them sets it. */
  isDenied: (connection: ConnectionTuples) => boolean = () => false;
  readonly #options: OutlierDetectionOptions;
  readonly #watched = new Map<string, WatchedService>();
  /** Those with ejected backends. */
  readonly #ejecting = new Set<WatchedService>();
  /** By slot, those that are looked at next first. */
  readonly #connections = new Map<number, WatchedConnection>();
  #isPlanned = false;
  #ejections = 0;

  constructor(options: OutlierDetectionOptions) {
    this.#options = options;
  }

  /** How many backends were ejected so far, and how many are now. */
  get statistics(): { readonly ejections: number; readonly ejected: number } {
    let ejected = 0;
    for (const { inForce } of this.#ejecting) ejected += inForce.size;
    return { ejections: this.#ejections, ejected };
  }

  // What the table of connections tells services

  opened(slot: number, choice: Choice, from: ClientOrigin, tuple: ProtocolTuple, nowMs: number): void {
    const { services } = this.#options;
    services.opened(slot, choice, from, tuple, nowMs);
    const service = services.get(choice.selection.service.id);
    if (!service?.outlier) return;
    const of = this.#watched.get(service.id) ?? this.#watch(service, service.outlier, nowMs);
    const client = this.#clientOf(from, tuple.source);
    const back = of.witnesses.came(client, nowMs).filter((id) => of.pool.acquit(id, nowMs));
    if (back.length > 0) this.#enforce(of);
    if (this.#connections.size >= MOST_WATCHED) return;
    this.#connections.set(slot, { of, client, backend: bytesId(choice.backend.address), openedAtMs: nowMs });
    this.#plan();
  }

  closed(slot: number, pin: number): void {
    const watched = this.#connections.get(slot);
    if (watched) this.#judge(slot, watched, this.#outcomeOf(slot));
    this.#options.services.closed(slot, pin);
  }

  recovered(connection: Parameters<Services['recovered']>[0], pin: number): void {
    this.#options.services.recovered(connection, pin);
  }

  passOver(pin: number): void {
    this.#options.services.passOver(pin);
  }

  /** It goes on, and has been judged. */
  reopened(slot: number, pin: number): void {
    this.#options.services.reopened(slot, pin);
  }

  tableFor(choice: Choice, from: Vni): number | undefined {
    return this.#options.services.tableFor(choice, from);
  }

  /** The datapath has opened it, which it does only for services whose connections are not watched. */
  claimed(slot: number, pin: number, table: number): void {
    this.#options.services.claimed(slot, pin, table);
  }

  // What else is known

  /** An ICMP error about what its client has sent came back. */
  unreachable(slot: number): void {
    const watched = this.#connections.get(slot);
    if (watched) this.#judge(slot, watched, this.#outcomeOf(slot) ?? 'unreachable');
  }

  /** A service has changed, or the checks of its backends have. */
  follow(id: string): void {
    const watched = this.#watched.get(id);
    if (!watched) return;
    const { services, clock } = this.#options;
    const service = services.get(id);
    if (service?.outlier) {
      const now = clock();
      watched.settings = service.outlier;
      watched.pool.setSettings(service.outlier, now);
      this.#setMembers(watched, service, now);
      return this.#enforce(watched);
    }
    this.#watched.delete(id);
    const back = [...watched.inForce.values()].map(({ address }) => [address, undefined] as const);
    services.setHealth(id, 'ejected', back);
    watched.inForce.clear();
    this.#ejecting.delete(watched);
  }

  /** Looks how connections have come about, and whose ejection is over. */
  look(): void {
    this.#isPlanned = false;
    const now = this.#options.clock();
    for (const watched of [...this.#ejecting]) {
      const back = watched.pool.advance(now);
      for (const id of back) watched.witnesses.forget(id);
      if (back.length > 0) this.#enforce(watched);
    }
    const isMore = this.#connections.size > MOST_LOOKED;
    let left = Math.min(this.#connections.size, MOST_LOOKED);
    for (const [slot, watched] of this.#connections) {
      if (left-- === 0) break;
      const outcome = this.#outcomeOf(slot);
      if (outcome || now - watched.openedAtMs >= ANSWER_WITHIN_MS) {
        this.#judge(slot, watched, outcome ?? this.#silenceOf(slot));
      } else if (isMore) {
        this.#connections.delete(slot);
        this.#connections.set(slot, watched);
      }
    }
    if (this.#connections.size > 0 || this.#ejecting.size > 0) this.#plan();
  }

  #plan(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    this.#options.onWork(LOOK_MS);
  }

  /** Undefined if it is not known yet. */
  #outcomeOf(slot: number): 'worked' | ConnectionFailure | undefined {
    const { records } = this.#options;
    if (records.protocol(slot) !== TCP) return records.state(slot) === 'answered' ? 'worked' : undefined;
    const seen = records.seen(slot, true);
    if (seen & (SEEN_SYN | SEEN_ACK)) return 'worked';
    return seen & SEEN_RST ? 'reset' : undefined;
  }

  /** What it means that nothing has come for long. A client may have given up by a reset, and need not be answered in UDP. */
  #silenceOf(slot: number): ConnectionFailure | undefined {
    const { records } = this.#options;
    return records.protocol(slot) === TCP && records.seen(slot, false) === SEEN_SYN ? 'no answer' : undefined;
  }

  /** Whoever it is, by all its addresses. */
  #clientOf(from: ClientOrigin, source: Uint8Array): string {
    if (from === OUTSIDE) return 'outside';
    return `${from}/${bytesId(this.#options.addressesWith(from, source)[0] ?? source)}`;
  }

  #judge(
    slot: number,
    { of, backend, client }: WatchedConnection,
    outcome: 'worked' | ConnectionFailure | undefined,
  ): void {
    this.#connections.delete(slot);
    if (outcome === undefined || this.#watched.get(of.id) !== of || !of.members.has(backend)) return;
    if (outcome === 'worked') {
      if (of.pool.state(backend)?.ejectedUntilMs === undefined) of.witnesses.forget(backend);
      return of.pool.worked(backend);
    }
    const { clock, wallClock, records } = this.#options;
    if (this.isDenied(records.read(slot))) return;
    const now = clock();
    const { failures: most, intervalMs } = of.settings;
    if (outcome === 'reset') of.witnesses.refused(backend, client);
    const count = outcome === 'reset' ? 1 : Math.min(of.witnesses.failed(backend, client, now, intervalMs), most);
    let isEjected = false;
    for (let i = 0; i < count; i++) isEjected ||= of.pool.failed(backend, outcome, now);
    if (!isEjected) return;
    of.witnesses.ejected(backend);
    const { failures, lastFailure, ejectedUntilMs } = of.pool.state(backend)!;
    const until = new Date(wallClock() + ejectedUntilMs! - now).toISOString().replace(/\.\d+/, '');
    of.why.set(backend, `${failureText(lastFailure!, failures)}, until ${until}`);
    this.#ejections++;
    this.#ejecting.add(of);
    this.#enforce(of);
    this.#plan();
  }

  #watch(service: Service, settings: NonNullable<Service['outlier']>, nowMs: number): WatchedService {
    const { id } = service;
    const watched: WatchedService = {
      id,
      pool: new OutlierPool<string>(settings),
      settings,
      witnesses: new Witnesses<string>(),
      members: new Map(),
      why: new Map(),
      inForce: new Map(),
    };
    this.#watched.set(id, watched);
    this.#setMembers(watched, service, nowMs);
    return watched;
  }

  /** Those that would be given to clients. */
  #setMembers({ pool, members, witnesses }: WatchedService, { id, backends }: Service, nowMs: number): void {
    const { services } = this.#options;
    const before = [...members.keys()];
    members.clear();
    for (const backend of backends) {
      const isUsed = backend.ready && !backend.terminating && backend.weight > 0;
      if (isUsed && !services.hasFault(id, backend, 'check_failed')) members.set(bytesId(backend.address), backend);
    }
    for (const id of before) if (!members.has(id)) witnesses.forget(id);
    pool.setMembers(members.keys(), nowMs);
  }

  /** Puts into force who is ejected. */
  #enforce(watched: WatchedService): void {
    const { services, onChange } = this.#options;
    const { id: service, pool, members, why, inForce } = watched;
    for (const id of why.keys()) if (pool.state(id)?.ejectedUntilMs === undefined) why.delete(id);
    const ejected = pool.isPanic ? nobody : why;
    const back = [...inForce].filter(([id]) => !ejected.has(id));
    services.setHealth(
      service,
      'ejected',
      back.map(([, { address }]) => [address, undefined]),
    );
    for (const [id, backend] of back) {
      inForce.delete(id);
      if (members.has(id)) onChange({ service, backend, why: undefined });
    }
    for (const [id, text] of ejected) {
      if (inForce.has(id)) continue;
      const backend = members.get(id)!;
      inForce.set(id, backend);
      services.setHealth(service, 'ejected', [[backend.address, text]]);
      onChange({ service, backend, why: text });
    }
    if (why.size === 0) this.#ejecting.delete(watched);
  }
}

const nobody: ReadonlyMap<string, string> = new Map();

function failureText(last: ConnectionFailure, failures: number): string {
  const connections = failures === 1 ? '1 connection' : `${failures} connections`;
  if (last === 'no answer') return `no answer to ${connections}`;
  return last === 'reset' ? `${connections} refused` : `not reached by ${connections}`;
}
