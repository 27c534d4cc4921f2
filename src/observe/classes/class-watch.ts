/**
 * Sees the conversations of this host, for the flow classes. Nothing is asked of whoever forwards: what has been opened is in the records of
 * connections, also if the datapath has opened it by itself, and stays there for 10 seconds at least after it has ended.
 *
 *   every few seconds   the records are gone through. A record with another generation than last time is another conversation
 *   with each denial    the policy log tells it, once for each decision
 *   every minute        when conversations were last seen that are still open, or are still denied; and which workloads have gone
 *
 * A look takes a few milliseconds, in several turns, however many conversations have begun: of one source only so many are read that are
 * not alike. The rest is counted. What found no record is not seen: the table of connections was full.
 */
import type { Flows } from '../../control/flows.ts';
import type { PolicyEvent, PolicyLog } from '../../control/policy-log.ts';
import { INTERNAL, type ConnectionRecords, type Place } from '../../flow/connection.ts';
import { fields } from '../../flow/fields.ts';
import { readNumber } from '../../flow/key.ts';
import { sameBytes, type Vni } from '../../flow/types.ts';
import { placeOf } from '../../forwarding/packet-judgement.ts';
import {
  denialOfPacket,
  partiesOf,
  peerAt,
  subjectsOf,
  type Denial,
  type JudgingTables,
  type Party,
} from '../../pipeline/open-connections.ts';
import type { Tables } from '../../pipeline/stage.ts';
import { repliesFrom } from '../../pipeline/where-is.ts';
import { eachInTurns, nextTurn } from '../../turns.ts';
import type { ClassEnd, FlowClass, Talk } from './flow-class.ts';
import type { FlowClasses } from './flow-classes.ts';

export interface ClassWatchEnvironment {
  readonly classes: FlowClasses;
  readonly records: ConnectionRecords;
  readonly tables: JudgingTables & Pick<Tables, 'neighbors' | 'fdb'>;
  readonly flows: Pick<Flows, 'dump'>;
  readonly policyLog: Pick<PolicyLog, 'onEvent'>;
  /** The network of an endpoint of this host; undefined if there is none of that name here. */
  readonly networkOf: (endpoint: string) => Vni | undefined;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
}

/** What one turn of the event loop does at most. */
const TURN_SCANNED = 32_768;
const TURN_NOTED = 1024;
const TURN_READ = 128;
const TURN_CHECKED = 1024;
/** What one look does at most: how many conversations are counted, and how many kinds of them are read, also of one source. */
const MOST_NOTED = 65_536;
const MOST_READ = 8192;
const MOST_READ_OF_SOURCE = 512;
/** How many denied flows of one port are looked at, and of all. */
const MOST_DENIED_OF_PORT = 256;
const MOST_DENIED = 4096;

export class ClassWatch {
  readonly #environment: ClassWatchEnvironment;
  /** What was in each slot when it was last looked at. */
  readonly #generations: Uint32Array;
  readonly #classAt: (FlowClass | undefined)[] = [];
  readonly #stop: () => void;
  /** Where the next look begins, so that one that does not get through leaves out others each time. */
  #first = 0;
  #hasLooked = false;
  /** When it was last looked at which flows are denied; by the clock of the switch. */
  #deniedAtMs = 0;
  #passedOver = 0;

  constructor(environment: ClassWatchEnvironment) {
    this.#environment = environment;
    this.#generations = new Uint32Array(environment.records.count);
    this.#stop = environment.policyLog.onEvent((event) => this.#take(event));
  }

  /** How many conversations were only counted, since too many began at once. */
  get passedOver(): number {
    return this.#passedOver;
  }

  close(): void {
    this.#stop();
  }

  /** @param isThorough also looks at what has been seen before */
  async look(isThorough: boolean): Promise<void> {
    const { classes, clock } = this.#environment;
    await this.#lookAtRecords(isThorough);
    if (isThorough) {
      await this.#lookAtDenied();
      await eachInTurns([...classes.values()], TURN_CHECKED, (one) => this.#checkEnds(one));
    }
    classes.keep(clock());
  }

  async #lookAtRecords(isThorough: boolean): Promise<void> {
    const { records, classes } = this.#environment;
    const bySource = new Map<number, number>();
    /** Undefined: it has none. */
    const found = new Map<string, FlowClass | undefined>();
    const slots = records.ready;
    let [noted, scanned, notedInTurn, readInTurn] = [0, 0, 0, 0];
    let left = -1;
    for (let n = 0; n < slots; n++) {
      if (++scanned >= TURN_SCANNED || notedInTurn >= TURN_NOTED || readInTurn >= TURN_READ) {
        [scanned, notedInTurn, readInTurn] = [0, 0, 0];
        await nextTurn();
      }
      const slot = (this.#first + n) % slots;
      const generation = records.generation(slot);
      if (generation === 0 || generation % 2 !== 0) continue;
      if (this.#generations[slot] === generation) {
        const one = isThorough && records.kind(slot) !== 'ended' ? this.#classAt[slot] : undefined;
        // It was given up, and is noted again by the next look.
        if (one && !classes.refresh(one, records.lastSeenMs(slot))) this.#generations[slot] = 0;
        continue;
      }
      if (noted >= MOST_NOTED) {
        if (left < 0) left = slot;
        continue;
      }
      noted++;
      notedInTurn++;
      const isSeenBefore = this.#classAt[slot] !== undefined && this.#generations[slot] === 0;
      this.#generations[slot] = generation;
      this.#classAt[slot] = undefined;
      // At a start, those that are open may have been counted before.
      const opened = this.#hasLooked && !isSeenBefore ? 1 : 0;
      const lastSeenMs = records.lastSeenMs(slot);
      const id = records.classId(slot);
      const known = found.get(id);
      if (known ? classes.noteAgain(known, { lastSeenMs, opened }) : found.has(id)) {
        this.#classAt[slot] = known;
        continue;
      }
      const source = records.beginner(slot);
      const read = bySource.get(source) ?? 0;
      if (read >= MOST_READ_OF_SOURCE || found.size >= MOST_READ) {
        this.#passedOver++;
        continue;
      }
      bySource.set(source, read + 1);
      readInTurn++;
      const talk = this.#talkAt(slot);
      // While it was read, a thread of the datapath may have closed it and opened another one there.
      if (records.generation(slot) !== generation) continue;
      const seen = { verdict: 'allow', firstSeenMs: lastSeenMs, lastSeenMs, opened, denied: 0 } as const;
      const one = talk && classes.note(talk, seen);
      found.set(id, one);
      this.#classAt[slot] = one;
    }
    this.#first = Math.max(left, 0);
    this.#hasLooked = true;
  }

  /** Undefined: policies are not asked about it. */
  #talkAt(slot: number): Talk | undefined {
    const { records, tables } = this.#environment;
    const connection = records.read(slot);
    if (connection.places[0] === INTERNAL || connection.kind === 'ended') return undefined;
    const subjects = subjectsOf(connection, slot, records, tables);
    const { from, to, meantPort, ...talk } = partiesOf(connection, tables, subjects);
    const isToWeft = talk.places[1] === INTERNAL;
    const isToService = connection.pin !== undefined;
    return {
      ...talk,
      ...(isToService && { meantPort }),
      from: this.#endOf(from),
      to: this.#endOf(isToWeft ? { ...to, address: talk.meant } : to),
    };
  }

  #endOf({ address, endpoint, identity, subject }: Party): ClassEnd {
    const isHere = subject !== undefined && this.#environment.networkOf(subject) !== undefined;
    return { address, endpoint, identity, subject: isHere ? subject : undefined };
  }

  #take(event: PolicyEvent): void {
    if (event.kind === 'denied') this.#noteDenied(event, event.atMs, 1);
  }

  /** Flows that have been decided once and are used again and again. */
  async #lookAtDenied(): Promise<void> {
    const { flows, tables, clock } = this.#environment;
    const [sinceMs, nowMs] = [this.#deniedAtMs, clock()];
    const byPort = new Map<number, number>();
    let looked = 0;
    await eachInTurns(flows.dump(), TURN_CHECKED, ({ flow, statistics: { lastUsedMs } }) => {
      const { reason, judged } = flow.decision;
      const isDenied = reason === 'policy_egress' || reason === 'policy_ingress';
      if (!isDenied || lastUsedMs <= sinceMs || looked >= MOST_DENIED) return;
      const { key } = flow;
      const port = readNumber(key, fields.in_port);
      const ofPort = byPort.get(port) ?? 0;
      const denied = judged.find(({ judgement }) => judgement.verdict === 'deny');
      if (!denied || ofPort >= MOST_DENIED_OF_PORT) return;
      byPort.set(port, ofPort + 1);
      looked++;
      this.#noteDenied(denialOfPacket(key, denied, tables), lastUsedMs, 0);
    });
    this.#deniedAtMs = nowMs;
  }

  /** @param denied how often it has been since it was last noted */
  #noteDenied(denial: Denial, atMs: number, denied: number): void {
    const { classes, tables, networkOf } = this.#environment;
    const { direction, protocol, l4Port, from, to, place, meant, meantPort } = denial;
    const isToOther = direction === 'egress';
    const subject = isToOther ? from.endpoint : to.endpoint;
    const vni = subject === undefined ? undefined : networkOf(subject);
    if (vni === undefined) return;
    // As the record of its connection would have it.
    const fromPlace = isToOther ? vni : (place ?? vni);
    const toPlace = isToOther ? this.#placeOf(to.address, vni, denial) : vni;
    const end = (place: Place, address: Uint8Array, isSubject: boolean): ClassEnd => {
      const peer = peerAt(place, address, tables);
      return this.#endOf({ ...peer, subject: isSubject ? subject : peer.endpoint });
    };
    classes.note(
      {
        ...{ places: [fromPlace, toPlace], protocol, l4Port, meant },
        ...(!sameBytes(meant, to.address) && { meantPort }),
        from: end(fromPlace, from.address, isToOther),
        to: end(toPlace, to.address, !isToOther),
      },
      { verdict: 'deny', firstSeenMs: atMs, lastSeenMs: atMs, opened: 0, denied },
    );
  }

  /** Where the other end is of what a workload of this host begins. */
  #placeOf(address: Uint8Array, vni: Vni, { protocol, l4Port }: Denial): Place {
    const { tables } = this.#environment;
    const place = placeOf({ address, vni }, protocol, l4Port, tables);
    return place === INTERNAL ? place : repliesFrom(address, vni, tables);
  }

  /** A workload that has gone is known by its labels from now on. */
  #checkEnds(one: FlowClass): void {
    const { classes, tables } = this.#environment;
    const check = (end: ClassEnd, place: Place): ClassEnd => {
      if (end.endpoint === undefined || end.isGone) return end;
      return peerAt(place, end.address, tables).endpoint === end.endpoint ? end : { ...end, isGone: true };
    };
    const from = check(one.from, one.places[0]);
    const to = check(one.to, one.places[1]);
    if (from !== one.from || to !== one.to) classes.change(one, { from, to });
  }
}
