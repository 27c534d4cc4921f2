/**
 * Audit: cached flows and open connections are looked at again, some in each second, although nothing is known to have changed.
 *
 *   flow         the datapath has it as it was put; and decided now, it would have the same actions, by no other fields. Of one by
 *                which the datapath opens connections itself: policies deny none that it may open, to whichever backend
 *   connection   the same of the flows that its packets take, with its own addresses; and policies do not deny it
 *
 * Whatever has changed was decided again at once (`revalidator.ts`), and connections were judged again (`sweep.ts`). So a difference
 * is a defect: a decision that depends on more than it consulted, a change that nobody noted, a datapath that does not have what
 * it was given. It is counted and told, and repaired as a change would have it: the flow goes, so that its next frame is decided,
 * and all connections are judged, if one may be open that is denied.
 *
 * Nothing is compared while a change is on its way to the flows or the connections: what differs then is no mismatch. Tables and
 * flows belong to the thread of the switch, as the audit does, so they do not change while it looks. Connections may be closed by
 * threads of the datapath; what is said of one holds if its slot still has it afterwards. A flow that hooks have a say in is only
 * compared with what the datapath has: what a hook says may be something else each time, and asking it takes long.
 *
 * The cost is bounded: so many actions and connections a second, in turns of a millisecond or two, and each once a second at most.
 */
import type { Datapath } from '../datapath/datapath.ts';
import { formatActions } from '../flow/action.ts';
import { protocolName, turned, type ConnectionTuples, type Tuple } from '../flow/connection.ts';
import { FRAG_NONE, fields } from '../flow/fields.ts';
import { applyMask, readNumber, writeNumber, type FlowKey, type FlowMask } from '../flow/key.ts';
import { formatIp, sameBytes, type FlowId, type PortNo } from '../flow/types.ts';
import { EXPENDABLE } from '../flow/connection-state.ts';
import { isCurrent, withCtState } from '../pipeline/ct-state.ts';
import type { Decision } from '../pipeline/decide.ts';
import { denialOf, isDenied, subjectsBy, subjectsOf } from '../pipeline/open-connections.ts';
import type { Tables } from '../pipeline/stage.ts';
import type { Changes } from '../table/changes.ts';
import { hooksObject } from '../table/hooks.ts';
import { connectionsBy } from './balanced.ts';
import { sameActions } from './decisions.ts';
import type { CachedFlow, Flows } from './flows.ts';
import { ofConnections } from './of-connections.ts';
import { decideAgain, type Revalidator } from './revalidator.ts';
import type { Sweep } from './sweep.ts';
import { inTurns, type Later } from './turns.ts';

export interface AuditOptions {
  readonly tables: Tables;
  readonly changes: Changes;
  readonly datapath: Pick<Datapath, 'flowGet' | 'connections'>;
  readonly flows: Flows;
  readonly revalidator: Pick<Revalidator, 'isSettled'>;
  readonly sweep: Pick<Sweep, 'isAtRest' | 'startAll'>;
  readonly later: Later | undefined;
}

/** What is not as it would be decided now. */
export interface Mismatch {
  /** `flow 12`, `connection c3`. */
  readonly what: string;
  /** What differs, for people. */
  readonly why: string;
}

export interface AuditStatistics {
  /** How many times a flow, and a connection, was looked at. */
  readonly flows: number;
  readonly connections: number;
  readonly mismatches: number;
  /** The latest one. */
  readonly last: Mismatch | undefined;
}

/** Into how many turns the work of a second is divided. */
const TURNS = 8;
/** How many actions the flows have together that one turn decides again: a flood takes as long as it has outputs. */
const TURN_ACTIONS = 32;
/** How many connections one turn looks at, and how many records it passes over to find them. */
const TURN_CONNECTIONS = 8;
const TURN_PASSED_OVER = 2048;
/** How many of the connections are judged that one flow may open. Of one that may open more, there are others each time. */
const MOST_JUDGED = 64;
/** How many mismatches are told in a second; the others are only counted. */
const MOST_TOLD = 5;

export class Audit {
  /** Called with mismatches, after each was repaired: with the first ones of each second. */
  onMismatch: (mismatch: Mismatch) => void = () => {};
  readonly #options: AuditOptions;
  #isAtWork = false;
  /** Where it goes on: among the flows, of which some go and others come in the meantime, and among the slots of connections. */
  #flows: Iterator<CachedFlow> | undefined;
  /** How many flows it goes through until it begins again with the oldest: those that come meanwhile wait for the next time. */
  #flowsLeft = 0;
  #slot = 0;
  #flowsSeen = 0;
  #connectionsSeen = 0;
  /** How often it has begun with the oldest flow. */
  #rounds = 0;
  #mismatches = 0;
  #told = 0;
  #last: Mismatch | undefined;

  constructor(options: AuditOptions) {
    this.#options = options;
  }

  get statistics(): AuditStatistics {
    return {
      flows: this.#flowsSeen,
      connections: this.#connectionsSeen,
      mismatches: this.#mismatches,
      last: this.#last,
    };
  }

  /** Called about once a second. */
  tick(): void {
    if (this.#isAtWork) return;
    this.#isAtWork = true;
    this.#told = 0;
    const { records } = this.#options.datapath.connections;
    if (this.#slot >= records.ready) this.#slot = 0;
    let [turns, areFlowsLeft] = [0, true];
    inTurns(this.#options.later, () => {
      const isOver = ++turns > TURNS || !(areFlowsLeft || this.#slot < records.ready) || !this.#isAtRest();
      if (isOver) this.#isAtWork = false;
      else {
        areFlowsLeft &&= this.#auditFlows();
        this.#auditConnections();
      }
      return !isOver;
    });
  }

  /** True if all that has changed has reached the flows and the connections. */
  #isAtRest(): boolean {
    const { changes, revalidator, sweep, tables } = this.#options;
    return changes.isEmpty && revalidator.isSettled && sweep.isAtRest && !tables.policies.hasConcerned;
  }

  /** Returns false when it has come round: the next second begins again, however few there are. */
  #auditFlows(): boolean {
    const { flows, sweep } = this.#options;
    if (!this.#flows) {
      this.#flows = flows.all();
      this.#flowsLeft = flows.size;
      this.#rounds++;
    }
    for (let actions = 0; actions < TURN_ACTIONS; ) {
      const { done, value: flow } = this.#flows.next();
      if (done || this.#flowsLeft-- === 0) {
        this.#flows = undefined;
        return false;
      }
      actions += weightOf(flow.decision);
      if (!flow.isInForce) continue;
      this.#flowsSeen++;
      const why = this.#differs(flow) ?? this.#opensDenied(flow);
      if (why === undefined) continue;
      flows.delete(flow.id);
      this.#note({ what: `flow ${flow.id}`, why });
      if (flow.decision.actions[0]?.op === 'balance') sweep.startAll();
    }
    return true;
  }

  /** What is not as it should be; undefined if nothing is. */
  #differs(flow: CachedFlow): string | undefined {
    const { tables, datapath } = this.#options;
    const { id, key, decision, isOfConnections } = flow;
    const [first] = decision.actions;
    const there = datapath.flowGet(id);
    if (!there) return 'the datapath does not have it';
    const { mask } = decision;
    if (!sameActions(there.actions, decision.actions))
      return `the datapath has ${formatActions(there.actions)}, not ${formatActions(decision.actions)}`;
    if (!sameBytes(there.mask, mask) || !sameBytes(applyMask(there.key, mask), applyMask(key, mask)))
      return 'the datapath has it for other packets';
    // Those of connections are decided again with the addresses of each. What is decided of a packet that opens one depends on
    // the room for it; whom policies deny does not (`#opensDenied`).
    if (isOfConnections || first?.op === 'balance' || asksHooks(decision, tables)) return undefined;
    const isOfFrames = (): boolean =>
      isCurrent(key, tables) && (first?.op !== 'nat' || tables.connections.isOpen(first));
    if (!isOfFrames()) return undefined;
    const why = differenceOf(decideAgain(key, tables), decision);
    // A thread of the datapath may have closed its connection meanwhile.
    return isOfFrames() ? why : undefined;
  }

  /** A connection that the datapath would open by this flow, although policies deny it; undefined if there is none. */
  #opensDenied({ key, decision }: CachedFlow): string | undefined {
    const { tables } = this.#options;
    const [first] = decision.actions;
    if (first?.op !== 'balance') return undefined;
    const cameInBy = readNumber(key, fields.in_port) as PortNo;
    try {
      const all = connectionsBy(key, first, tables);
      const from = this.#rounds * MOST_JUDGED;
      for (let n = 0; n < Math.min(MOST_JUDGED, all.length); n++) {
        const connection = all[(from + n) % all.length]!;
        const denial = denialOf(connection, tables, undefined, subjectsBy(connection, cameInBy, tables));
        const { destination, destinationPort } = connection.translated;
        if (isDenied(denial))
          return `policies for ${denial.direction} deny what it may open, to ${formatIp(destination)} port ${destinationPort}`;
      }
      return undefined;
    } catch (error) {
      return `policies cannot judge what it may open: ${(error as Error).message}`;
    }
  }

  #auditConnections(): void {
    const { records } = this.#options.datapath.connections;
    const end = Math.min(this.#slot + TURN_PASSED_OVER, records.ready);
    for (let seen = 0; this.#slot < end && seen < TURN_CONNECTIONS; this.#slot++) {
      const generation = records.generation(this.#slot);
      if (generation === 0 || generation % 2 !== 0 || EXPENDABLE.has(records.state(this.#slot))) continue;
      seen++;
      this.#connectionsSeen++;
      this.#auditConnection(this.#slot, generation);
    }
  }

  #auditConnection(slot: number, generation: number): void {
    const { datapath, tables, flows, sweep } = this.#options;
    const { records } = datapath.connections;
    const what = `connection c${slot}`;
    let taken: readonly { readonly flow: FlowId; readonly why: string }[] = [];
    let denied: string | undefined;
    try {
      const connection = records.read(slot);
      const subjects = subjectsOf(connection, slot, records, tables);
      const denial = denialOf(connection, tables, undefined, subjects);
      if (isDenied(denial)) denied = `policies for ${denial.direction} deny it`;
      taken = [false, true].flatMap((reply) => this.#flowTaken(connection, slot, reply) ?? []);
    } catch (error) {
      denied = `policies cannot judge it: ${(error as Error).message}`;
    }
    if (records.generation(slot) !== generation) return;
    if (denied !== undefined) {
      this.#note({ what, why: denied });
      sweep.startAll();
    }
    for (const { flow, why } of taken) {
      flows.delete(flow);
      this.#note({ what, why: `its flow ${flow}: ${why}` });
    }
  }

  /** The flow that packets of this direction take, if another one would be decided for this connection. */
  #flowTaken(
    connection: ConnectionTuples,
    slot: number,
    reply: boolean,
  ): { readonly flow: FlowId; readonly why: string } | undefined {
    const { datapath, tables, flows } = this.#options;
    const flow = flows.get(datapath.connections.records.flow(slot, reply) as FlowId);
    if (!flow?.isOfConnections || !flow.isInForce) return undefined;
    const { key, decision } = flow;
    if (readNumber(key, fields.ip_frag) !== FRAG_NONE || asksHooks(decision, tables)) return undefined;
    const own = withTuple(key, connection, reply ? turned(connection.translated) : connection.original);
    // It may have ended, or be another one's by now; then its packets do not take that flow.
    if (withCtState(own, tables) !== own) return undefined;
    const decided = decideAgain(own, tables);
    const of = decided?.connection;
    if (of && of.slot !== slot) return undefined;
    const why = differenceOf(decided && of ? ofConnections(decided, of, own) : decided, decision);
    return why === undefined ? undefined : { flow: flow.id, why };
  }

  #note(mismatch: Mismatch): void {
    this.#mismatches++;
    this.#last = mismatch;
    if (this.#told++ < MOST_TOLD) this.onMismatch(mismatch);
  }
}

/** How long it takes to look at it, compared with others. */
function weightOf({ actions }: Decision): number {
  return actions[0]?.op === 'balance' ? TURN_ACTIONS / 4 : Math.max(1, actions.length);
}

/** True if what it says depends on hooks. */
function asksHooks({ consulted }: Decision, { hooks }: Tables): boolean {
  return !hooks.isEmpty && consulted.includes(hooksObject);
}

function differenceOf(now: Decision | undefined, then: Decision): string | undefined {
  if (!now) return 'it cannot be decided again';
  if (!sameActions(now.actions, then.actions))
    return `it would be ${formatActions(now.actions) || now.verdict} now, not ${formatActions(then.actions)}`;
  return isWithin(now.mask, then.mask) ? undefined : 'it would be for fewer packets now';
}

/** A flow may depend on more than is needed: one that opens a connection has read what it takes to choose its backend. */
function isWithin(mask: FlowMask, other: FlowMask): boolean {
  return mask.every((bits, at) => (bits & ~other[at]!) === 0);
}

/** The key of a packet of this connection that is like that one in all else. */
function withTuple(like: FlowKey, { protocol }: ConnectionTuples, tuple: Tuple): FlowKey {
  const key = like.slice();
  key.set(tuple.source, fields.ip_src.offset);
  key.set(tuple.destination, fields.ip_dst.offset);
  writeNumber(key, fields.ip_proto, protocol);
  if (protocolName(protocol) === 'icmp') writeNumber(key, fields.icmp_id, tuple.sourcePort);
  else {
    writeNumber(key, fields.l4_src, tuple.sourcePort);
    writeNumber(key, fields.l4_dst, tuple.destinationPort);
  }
  return key;
}
