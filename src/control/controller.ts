/**
 * The controller connects pipeline and datapath: it answers upcalls, applies the effects of decisions,
 * and keeps the flow cache correct.
 *
 * An upcall is answered in this order:
 *   1. decide; if the frame waits for a neighbor, the answer comes when that is known (`resolver.ts`)
 *   2. apply what was learned, and open a connection; if that changed a table, flows that consulted the
 *      object are decided again, and so is this one
 *   3. put the flow, and if it begins a conversation, that of the packets behind it
 *   4. execute, which releases the parked frames
 *   5. send the reply, if the decision has one
 *
 * The tables note which objects they change (`table/changes.ts`), and `enforce` adapts the cache
 * (`revalidator.ts`). Connections that lose their other end are ended and told (`endings.ts`).
 *
 * No turn of the event loop takes long, however many flows there are, so other callers are answered in
 * the meantime. Yet a change that may take something away is in force when `enforce` returns.
 *
 * Owned by the thread of the switch. Time comes from the clock that is passed in.
 */
import type { Datapath, FlowEntry, Upcall } from '../datapath/datapath.ts';
import { mtuOf } from '../flow/action.ts';
import { extract } from '../flow/extract.ts';
import { ctState, fields } from '../flow/fields.ts';
import { emptyKey, readNumber, writeNumber, type FlowKey } from '../flow/key.ts';
import type { FlowId, PortNo, Vni } from '../flow/types.ts';
import { announcement, replyFrame } from '../pipeline/reply.ts';
import type { ConnectionUse, Effect, Tables } from '../pipeline/stage.ts';
import { claimConnection, isCurrent, withCtState } from '../pipeline/ct-state.ts';
import { decide, type Decision } from '../pipeline/decide.ts';
import { saysUnreachable } from '../pipeline/unreachable.ts';
import type { Changes } from '../table/changes.ts';
import { OWN_PORT } from '../table/topology.ts';
import { Audit } from './audit.ts';
import { balancedDecision, ofAnyPort } from './balanced.ts';
import { Clashes, type Clash } from './clashes.ts';
import { DropLog } from './drop-log.ts';
import { Endings } from './endings.ts';
import { FarResets } from './far-resets.ts';
import { byUse, Flows, type CachedFlow, type FlowUse } from './flows.ts';
import { PolicyLog } from './policy-log.ts';
import { RateLimit } from './rate-limit.ts';
import { ReplyFlows } from './reply-flows.ts';
import { Resolver } from './resolver.ts';
import { hasNews, isFlood, Revalidator, TURN_REDECIDED } from './revalidator.ts';
import { Sweep } from './sweep.ts';
import { inTurns, type Later } from './turns.ts';

export interface ControllerOptions {
  readonly tables: Tables;
  /** Where the tables note what they change. */
  readonly changes: Changes;
  readonly flowCap: number;
  /** A flow is removed when it has not been used for this many milliseconds. */
  readonly flowIdleMs: number;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
  /** Does something after some milliseconds; returns how to cancel that. Without it, the next tick is soon enough. */
  readonly after?: (delayMs: number, work: () => void) => () => void;
  /** Without it, everything is done before a call returns. */
  readonly later?: Later;
  /** An ICMP error came back about what the client of the connection in that slot has sent. */
  readonly onUnreachable?: (slot: number) => void;
  /** Called when a decision threw, which is a defect in weft. The frames were dropped as `upcall_lost`. */
  readonly onError: (error: unknown, upcall: Upcall) => void;
}

/** Whoever has a larger part of the cached flows than this gets none for what may follow: most of his have one packet. */
const MOST_FOR_NEXT = 1 / 16;
/** How many flows are looked at in one turn. */
const TURN_SWEPT = 4096;
/** Answers to packets from a port that are too big. Each of them costs an upcall. */
const TOO_BIG = { perSecond: 50, burst: 100 };
/** Answers to hosts that claim an address of a port: DEFEND_INTERVAL of RFC 5227. */
const DEFENCES = { perSecond: 0.1, burst: 1 };

/** For whom weft speaks: the workload behind a port, or itself in a network. */
type FromWeft = { readonly port: PortNo } | { readonly vni: Vni };

export class Controller {
  readonly flows: Flows;
  readonly drops = new DropLog();
  readonly policyLog = new PolicyLog();
  readonly clashes: Clashes;
  readonly revalidator: Revalidator;
  readonly endings: Endings;
  readonly #farResets: FarResets;
  /** Ends connections that policies deny by now. */
  readonly sweep: Sweep;
  /** Looks whether what is cached is what would be decided now. */
  readonly audit: Audit;
  readonly #replyFlows = new ReplyFlows();
  readonly #resolver: Resolver;
  readonly #tooBig = new RateLimit(TOO_BIG);
  readonly #defences = new RateLimit(DEFENCES);
  readonly #options: ControllerOptions;
  readonly #datapath: Datapath;
  readonly #listeners = new Set<(flow: CachedFlow) => void>();
  #isSweeping = false;

  constructor(datapath: Datapath, options: ControllerOptions) {
    this.#datapath = datapath;
    this.#options = options;
    const { tables, changes, clock, after, later } = options;
    const flows = new Flows(datapath, options.flowCap);
    this.flows = flows;
    this.clashes = new Clashes(tables);
    this.revalidator = new Revalidator({
      ...{ tables, flows, clock, later },
      put: (key, decision, nowMs) => this.#putAlone(key, decision, nowMs),
      redecided: (key, decision, then, nowMs) => {
        if (decision.reason !== then.reason || isNewlyStaged(decision, then)) this.#note(key, decision, nowMs);
      },
    });
    this.#resolver = new Resolver({
      tables,
      originate: (frame, from) => this.originate(frame, from),
      enforce: () => this.enforce(),
      handle: (upcalls) => this.handle(upcalls),
      isConsulted: (object) => flows.consulting([object]).length > 0,
    });
    const farResets = new FarResets({ tables, datapath, clock, later });
    this.#farResets = farResets;
    this.endings = new Endings({
      ...{ tables, changes, datapath, farResets, clock, after, later },
      enforce: () => this.enforce(),
      originate: (frame, from) => this.originate(frame, from),
    });
    this.sweep = new Sweep({
      ...{ tables, changes, farResets, clock, later, records: datapath.connections.records },
      enforce: () => this.enforce(),
      wayOf: (frame, port) => this.#wayOf(frame, { port }),
      send: (frame, port) => datapath.execute({ frame }, [{ op: 'output', port }]),
    });
    this.sweep.onCuts = (...swept) => this.policyLog.swept(...swept);
    const { revalidator, sweep } = this;
    this.audit = new Audit({ tables, changes, datapath, flows, revalidator, sweep, later });
  }

  close(): void {
    this.endings.close();
  }

  /** Calls `listener` with every flow that is put. Returns a function that stops it. */
  onFlow(listener: (flow: CachedFlow) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Answers a batch of misses. */
  handle(batch: readonly Upcall[]): void {
    for (const upcall of batch) {
      try {
        this.#answer(upcall);
      } catch (error) {
        this.#datapath.execute(upcall.token, [{ op: 'drop', reason: 'upcall_lost' }]);
        this.#options.onError(error, upcall);
      }
    }
  }

  /** Decides without any effect, whatever the key says about its connection. @param head and @param packetBytes as in `decide` */
  decide(key: FlowKey, head?: Uint8Array, packetBytes?: number): Decision {
    const { tables } = this.#options;
    return decide(withCtState(key, tables, head), tables, head, packetBytes);
  }

  /**
   * Sends a frame that weft has made to where the pipeline decides. The decision is not cached.
   * @param from the port for whose workload weft speaks, or the network in which weft itself asks
   */
  originate(frame: Uint8Array, from: FromWeft): Decision {
    const decision = this.#decideOwn(frame, from);
    // It comes from no port, so its connection would not be found; and nobody but weft has sent it.
    const actions = decision.actions.filter(({ op }) => op !== 'count');
    if (decision.verdict === 'forward') this.#datapath.execute({ frame }, actions);
    return decision;
  }

  /** Where such a frame goes. What is returned sends others there that are translated already, if its connection is over by then. */
  #wayOf(frame: Uint8Array, from: FromWeft): (frame: Uint8Array) => void {
    const { verdict, actions } = this.#decideOwn(frame, from);
    const way = actions.filter(({ op }) => op !== 'count' && op !== 'nat');
    return (translated) => {
      if (verdict === 'forward') this.#datapath.execute({ frame: translated }, way);
    };
  }

  #decideOwn(frame: Uint8Array, from: FromWeft): Decision {
    const key = emptyKey();
    extract(frame, key);
    if ('port' in from) writeNumber(key, fields.in_port, from.port);
    else {
      writeNumber(key, fields.in_port, OWN_PORT);
      writeNumber(key, fields.tun_vni, from.vni);
    }
    return this.decide(key, frame);
  }

  /**
   * Adapts the cached flows to what the tables have changed since the last call. When this returns, no flow that
   * consulted a changed or removed object is stale. Added objects reach cached flows in this turn and the next
   * ones.
   * @returns true if anything has changed
   */
  enforce(): boolean {
    const { changes } = this.#options;
    if (changes.isEmpty) return false;
    const { changed, added } = changes.drain();
    this.revalidator.revalidate(changed, added);
    this.#resolver.release([...changed, ...added]);
    // From here on, no connection is opened by what was in force before.
    if (this.#options.tables.policies.hasConcerned) this.sweep.start();
    return true;
  }

  forgetPort(port: PortNo): void {
    this.drops.forgetPort(port);
    this.policyLog.forgetPort(port);
    this.#tooBig.forget(port);
    this.#defences.forget(port);
  }

  /** Called about once a second: drops idle flows, refreshes learned entries of live ones, and ages the rest. */
  tick(): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    const { clock, flowIdleMs } = this.#options;
    this.#resolver.tick(clock());
    this.#farResets.tick();
    /** Decisions that learn, and when each was last used. */
    const learning = new Map<Decision, FlowUse>();
    const flows = this.flows.dump();
    inTurns(this.#options.later, () => {
      const now = clock();
      for (let i = 0; i < TURN_SWEPT; i++) {
        const { done, value } = flows.next();
        if (done) {
          this.#isSweeping = false;
          this.#refresh(learning);
          this.#expire(now);
          this.#changeMask();
          return false;
        }
        this.#sweep(value, now - flowIdleMs, learning);
      }
      return true;
    });
  }

  /**
   * If a mask gives way to another, removes its flows, some in each turn. When the last is gone, the other mask gets
   * the place.
   */
  #changeMask(): void {
    const change = this.flows.endMaskWindow();
    if (!change) return;
    const { flows, key, mask } = change;
    let at = 0;
    inTurns(this.#options.later, () => {
      const end = Math.min(at + TURN_REDECIDED, flows.length);
      while (at < end) this.flows.delete(flows[at++]!);
      if (at < flows.length) return true;
      const { tables } = this.#options;
      const decision = decide(key, tables);
      const isAlike = decision.cacheable && decision.mask === mask && !hasNews(decision.effects, tables.fdb);
      if (isAlike && isCurrent(key, tables)) {
        this.#cache(key, decision, this.#options.clock());
      }
      return false;
    });
  }

  /**
   * Caches what becomes of the packets behind the one that begins a conversation, which is then known. So a burst behind
   * it, or behind the first reply, needs no decision and waits for none. Not behind a flood, which ends with the first reply; and
   * not for a port that has very many flows, as one has that scans: its conversations would take two each.
   */
  #cacheNext(first: FlowKey, nowMs: number): void {
    if (this.flows.shareOf(readNumber(first, fields.in_port)) > MOST_FOR_NEXT) return;
    const key = first.slice();
    writeNumber(key, fields.ct_state, ctState.known);
    const { tables } = this.#options;
    const decision = decide(key, tables);
    const isSettled = decision.cacheable && !hasNews(decision.effects, tables.fdb);
    if (isSettled && !this.flows.has(key, decision.mask)) this.#cache(key, decision, nowMs);
  }

  /** Keeps what operators may ask for: why it is dropped, and what policies say about it. */
  #note(key: FlowKey, decision: Decision, nowMs: number): void {
    const drop = decision.reason && this.drops.add(key, decision, nowMs);
    if (decision.judged.length > 0) this.policyLog.note(key, decision, nowMs, drop, this.#options.tables);
  }

  /** Undefined if there is no room for it. */
  #cache(key: FlowKey, decision: Decision, nowMs: number): CachedFlow | undefined {
    const flow = this.#put(key, decision, nowMs);
    if (flow) for (const listener of this.#listeners) listener(flow);
    return flow;
  }

  #expire(nowMs: number): void {
    const { tables, changes } = this.#options;
    tables.fdb.expire(nowMs);
    tables.neighbors.expire(nowMs);
    tables.services.expire(nowMs);
    changes.changedAll(tables.connections.expire(nowMs));
    this.enforce();
    this.endings.endPinned();
  }

  #sweep(
    { flow, statistics }: { flow: CachedFlow; statistics: FlowEntry },
    idleSinceMs: number,
    learning: Map<Decision, FlowUse>,
  ): void {
    if (statistics.lastUsedMs <= idleSinceMs) this.flows.delete(flow.id);
    else if (flow.decision.reason) this.clashes.note(flow, flow.decision.reason, statistics.lastUsedMs);
    else if (flow.decision.effects.length > 0) {
      const latest = learning.get(flow.decision);
      if (!latest || byUse(latest, statistics) < 0) learning.set(flow.decision, statistics);
    }
  }

  /**
   * Refreshes learned entries in the order of their last use, so that the forwarding database keeps those seen last the
   * longest. Entries that have moved or gone since the sweep began stay so.
   */
  #refresh(learning: ReadonlyMap<Decision, FlowUse>): void {
    const { fdb } = this.#options.tables;
    const inOrder = [...learning].sort(([, a], [, b]) => byUse(a, b));
    for (const [{ effects }, { lastUsedMs }] of inOrder) if (!hasNews(effects, fdb)) this.#learn(effects, lastUsedMs);
  }

  #answer(upcall: Upcall): void {
    const { tables, changes, clock } = this.#options;
    const now = clock();
    let key = withCtState(upcall.key, tables, upcall.head);
    let decision = decide(key, tables, upcall.head);
    if (this.#learn(decision.effects, now)) decision = decide(key, tables, upcall.head);
    if (decision.opening) {
      changes.changedAll(tables.connections.open(decision.opening, now));
      this.enforce();
      // From now on, the datapath opens such connections by itself, if it can.
      const [anyPort, balanced] = [ofAnyPort(key), balancedDecision(decision)];
      if (anyPort && balanced) this.#cache(anyPort, balanced, now);
      key = withCtState(key, tables, upcall.head);
      decision = decision.opened?.() ?? decide(key, tables, upcall.head);
      // A thread of the datapath has taken the room in the meantime.
      if (decision.opening) return this.#datapath.execute(upcall.token, [{ op: 'drop', reason: 'connection_limit' }]);
    }
    if (decision.neighbor) return this.#resolver.wait(decision.neighbor, upcall, now);

    const cached = decision.cacheable ? this.#cache(key, decision, now) : undefined;
    if (cached) {
      decision = cached.decision;
      if (decision.actions[0]!.op === 'track' && !isFlood(decision)) this.#cacheNext(key, now);
    }
    this.#note(key, decision, now);
    if (decision.reason) this.#defend(this.clashes.note(upcall, decision.reason, now), now);
    this.#datapath.execute(upcall.token, decision.actions);
    this.#reply(decision, upcall, now);
    this.#noteError(decision, key);
    const mtu = mtuOf(decision.actions);
    // The cached decision is for packets of any size. What to tell the sender of this one is decided for it alone.
    if (mtu !== undefined && upcall.packetBytes > mtu) {
      this.#reply(decide(key, tables, upcall.head, upcall.packetBytes), upcall, now);
    }
  }

  /**
   * A decision about a packet of a connection becomes the flow of that direction of the connection. If that direction
   * already has a flow, which does not cover this packet, the new one is a flow like any other: packets of one
   * connection that differ, in their TTL for example, do not replace each other's flow.
   */
  #put(key: FlowKey, decision: Decision, nowMs: number): CachedFlow | undefined {
    const { connection } = decision;
    if (!connection) return this.#putAlone(key, decision, nowMs);
    const { connections } = this.#options.tables;
    const known = this.flows.get(connections.flow(connection) as FlowId);
    if (known && !this.flows.covers(known, key)) return this.#putAlone(key, decision, nowMs);
    const flow = this.flows.putOfConnection(key, decision, connection, nowMs);
    if (!flow) return undefined;
    connections.setFlow(connection, flow.id);
    const tuples = connections.tuples(connection.slot);
    // The datapath may have closed it, and opened another one there.
    if (!connections.isOpen(connection)) return flow;
    if (connection.reply) this.#replyFlows.note(tuples, flow.id);
    else this.#guessReplies(connection, this.#replyFlows.find(tuples));
    return flow;
  }

  /** What is cached of a single connection has to go when that ends. Undefined if it has, or if there is no room. */
  #putAlone(key: FlowKey, decision: Decision, nowMs: number): CachedFlow | undefined {
    return claimConnection(key, this.#options.tables) ? this.flows.put(key, decision, nowMs) : undefined;
  }

  /** The first reply needs no decision if it takes the flow that is expected. Replies that have a flow keep it. */
  #guessReplies(connection: ConnectionUse, expected: FlowId | undefined): void {
    const { connections } = this.#options.tables;
    const replies = { ...connection, reply: true };
    if (expected === undefined || connections.flow(replies) !== 0) return;
    if (this.flows.get(expected)?.isInForce) connections.setFlow(replies, expected);
  }

  /**
   * Tells a host that claims an address of an endpoint here whose it is (RFC 5227 §2.4), so that both know about the
   * clash. The other hosts are not told: while a container moves, two hosts have it for a moment, and the last to
   * announce it wins.
   */
  #defend(clash: Clash | undefined, nowMs: number): void {
    if (clash?.kind !== 'address') return;
    const { vni, vtep, ip } = clash;
    const { fdb, neighbors } = this.#options.tables;
    const mac = neighbors.lookup(vni, ip);
    const where = mac && fdb.lookup(vni, mac)?.where;
    if (where?.kind !== 'port' || !this.#defences.allows(where.port, nowMs)) return;
    this.#datapath.execute({ frame: announcement(mac!, ip) }, [{ op: 'encap', vni, vtep }]);
  }

  /** ICMP errors are decided one by one. */
  #noteError({ actions: [first] }: Decision, key: FlowKey): void {
    if (first?.op !== 'related' || !first.reply || !saysUnreachable(key)) return;
    this.#options.onUnreachable?.(first.slot);
    this.enforce();
  }

  /** Sends the decision's answer to the sender. */
  #reply({ effects }: Decision, { head }: Upcall, nowMs: number): void {
    for (const effect of effects) {
      if (effect.kind !== 'reply' && effect.kind !== 'too_big') continue;
      if (effect.kind === 'too_big' && !this.#tooBig.allows(effect.port, nowMs)) continue;
      const via = effect.kind === 'too_big' ? effect.via : undefined;
      const frame = replyFrame(effect, head);
      this.#datapath.execute({ frame }, [via ? { op: 'encap', ...via } : { op: 'output', port: effect.port }]);
    }
  }

  /** Applies what was learned. Returns true if a table changed. */
  #learn(effects: readonly Effect[], seenAtMs: number): boolean {
    const { fdb, neighbors } = this.#options.tables;
    for (const effect of effects) {
      if (effect.kind === 'learn') fdb.learn(effect.vni, effect.mac, effect.where, seenAtMs);
      else if (effect.kind === 'neighbor') neighbors.learn(effect.vni, effect.ip, effect.mac, seenAtMs);
    }
    return this.enforce();
  }
}

/** True if staged policies would deny what those before would not have denied. */
function isNewlyStaged({ judged }: Decision, { judged: then }: Decision): boolean {
  return judged.some(({ judgement }, at) => judgement.staged && !then[at]?.judgement.staged);
}
