/**
 * The controller connects pipeline and datapath: it answers upcalls, applies the effects of decisions,
 * and keeps the flow cache correct.
 *
 * An upcall is answered in this order:
 *   1. decide; if the frame waits for a neighbor, the answer comes when that is known
 *   2. apply what was learned, and open a connection; if that changed a table, flows that consulted the
 *      object are decided again, and so is this one
 *   3. put the flow
 *   4. execute, which releases the parked frames
 *   5. send the reply, if the decision has one
 *
 * The tables note which objects they change (`table/changes.ts`), and `enforce` adapts the cache: a
 * cached flow is decided again if an object that it consulted has changed, and only then. It stays if
 * the new decision uses the same fields, with its actions replaced if they differ. Otherwise it goes,
 * and its next frame is a miss.
 *
 * No turn of the event loop takes long, however many flows there are, so other callers are answered in
 * the meantime. Yet a change that may take something away is in force when `enforce` returns: flows
 * beyond REDECIDE_LIMIT are withdrawn from the datapath at once, so they are never stale, and put back
 * as they are decided, some in each turn. A change that only adds something leaves cached flows
 * harmless, so they stay in place in the meantime.
 *
 * A flood has as many outputs as its network has ports, and takes as long to decide. So of many floods that a
 * change concerns, only the most used are decided again. The others are removed, and each that is still
 * needed is decided with its next frame. Therefore a port that joins a large network costs the same however
 * many floods are cached there.
 *
 * Owned by the thread of the switch. Time comes from the clock that is passed in.
 */
import type { Datapath, FlowEntry, Upcall } from '../datapath/datapath.ts';
import { mtuOf } from '../flow/action.ts';
import { extract } from '../flow/extract.ts';
import { fields } from '../flow/fields.ts';
import { emptyKey, writeNumber, type FlowKey } from '../flow/key.ts';
import type { FlowId, PortNo, Vni } from '../flow/types.ts';
import { announcement, neighborRequest, replyFrame } from '../pipeline/reply.ts';
import type { ConnectionUse, Effect, NeighborName, Tables } from '../pipeline/stage.ts';
import { claimConnection, withCtState } from '../pipeline/ct-state.ts';
import { decide, type Decision } from '../pipeline/decide.ts';
import type { Changes } from '../table/changes.ts';
import type { PinnedConnection } from '../table/ended-connections.ts';
import { neighborObject } from '../table/neighbor.ts';
import { OWN_PORT } from '../table/topology.ts';
import { balancedDecision, ofAnyPort } from './balanced.ts';
import { Clashes, type Clash } from './clashes.ts';
import { DropLog } from './drop-log.ts';
import { byUse, Flows, type CachedFlow, type FlowUse } from './flows.ts';
import { RateLimit } from './rate-limit.ts';
import { ReplyFlows } from './reply-flows.ts';
import { saysUnreachable } from '../pipeline/unreachable.ts';
import { resetOfBackend, resetsOf, type Resets } from '../pipeline/resets.ts';
import { Resolver } from './resolver.ts';

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
  /** Postpones work to a later turn, like `setImmediate`. Without it, everything is done before a call returns. */
  readonly later?: (work: () => void) => void;
  /** An ICMP error came back about what the client of the connection in that slot has sent. */
  readonly onUnreachable?: (slot: number) => void;
  /** Called when a decision threw, which is a defect in weft. The frames were dropped as `upcall_lost`. */
  readonly onError: (error: unknown, upcall: Upcall) => void;
}

/** How many flows one change decides again at once. If there are more, the rest is withdrawn first. */
export const REDECIDE_LIMIT = 2000;
/** How many flows are decided again in one turn: takes some milliseconds. */
const TURN_REDECIDED = 500;
const TURN_SWEPT = 4096;
/** How many connections are ended, and their ends told, in one turn. */
const TURN_ENDED = 256;
/** How many slots are gone through in one turn to find them: takes a few milliseconds. */
const TURN_SCANNED = 16_384;
/** Timers cannot wait for as long as a backend may drain. */
const LONGEST_WAIT_MS = 3_600_000;
/** A flow with more actions than this is a flood that takes much longer to decide than other flows. */
const FLOOD_ACTIONS = 32;
/** How many actions the floods may have together that one change decides again: takes some milliseconds. */
export const REDECIDE_FLOOD_ACTIONS = 16_384;
/** Answers to packets from a port that are too big. Each of them costs an upcall. */
const TOO_BIG = { perSecond: 50, burst: 100 };
/** Answers to hosts that claim an address of a port: DEFEND_INTERVAL of RFC 5227. */
const DEFENCES = { perSecond: 0.1, burst: 1 };

export class Controller {
  readonly flows: Flows;
  readonly drops = new DropLog();
  readonly clashes: Clashes;
  readonly #replyFlows = new ReplyFlows();
  readonly #resolver = new Resolver();
  readonly #tooBig = new RateLimit(TOO_BIG);
  readonly #defences = new RateLimit(DEFENCES);
  readonly #options: ControllerOptions;
  readonly #datapath: Datapath;
  readonly #listeners = new Set<(flow: CachedFlow) => void>();
  /** The key of the flow that is being decided again. */
  readonly #key = emptyKey();
  /** How many changes are still reaching cached flows, and who waits for them. */
  #unsettled = 0;
  readonly #onSettled = new Set<() => void>();
  #isSweeping = false;
  /** From which slot on connections to backends that are gone are still looked for. */
  #endFrom = Infinity;
  #stopWaiting = (): void => {};
  #redecided = 0;
  #withdrawn = 0;

  constructor(datapath: Datapath, options: ControllerOptions) {
    this.#datapath = datapath;
    this.#options = options;
    this.flows = new Flows(datapath, options.flowCap);
    this.clashes = new Clashes(options.tables);
  }

  /**
   * How often changes caused cached flows to be decided again, and how many flows were withdrawn from the datapath for
   * that.
   */
  statistics(): { readonly redecided: number; readonly withdrawn: number } {
    return { redecided: this.#redecided, withdrawn: this.#withdrawn };
  }

  /** Calls `listener` with every flow that is put. Returns a function that stops it. */
  onFlow(listener: (flow: CachedFlow) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Ends the connections to backends that are gone, or have moved so that their replies come in elsewhere, or whose time
   * to drain is over, and tells both ends of those of TCP:
   * the first ones before this returns, and if there are many, the others in the next turns. It is done again when the time
   * of others is over.
   */
  endPinned(): void {
    const { tables, changes, clock } = this.#options;
    const { connections, services } = tables;
    this.#endFrom = 0;
    this.#inTurns(() => {
      const now = clock();
      const pins = services.ended(now);
      const slots = { from: this.#endFrom, to: this.#endFrom + TURN_SCANNED };
      const gone = connections.pinned(pins, TURN_ENDED, slots);
      const { followed, changed } = connections.follow(services.moved, now, TURN_ENDED - gone.length, slots);
      changes.changedAll(changed);
      const ended = [...gone, ...followed];
      for (const connection of ended) {
        const resets = resetsOf(connection, tables);
        if (resets) this.originate(resets.toBackend, { port: resets.port });
        // From now on, what the client answers is not passed on.
        changes.changedAll(connections.retire(connection.slot, now));
        this.#tellClient(connection, resets);
      }
      this.enforce();
      if (ended.length === TURN_ENDED) return true;
      const isMore = slots.to < connections.slots && pins.size + services.moved.size > 0;
      this.#endFrom = isMore ? slots.to : Infinity;
      if (isMore) return true;
      services.moved.clear();
      this.#endLater(now);
      return false;
    });
  }

  #endLater(nowMs: number): void {
    const { tables, after } = this.#options;
    this.#stopWaiting();
    const nextMs = tables.services.nextEndMs(nowMs);
    if (nextMs === undefined || !after) return;
    this.#stopWaiting = after(Math.ceil(Math.min(nextMs - nowMs, LONGEST_WAIT_MS)), () => this.endPinned());
  }

  close(): void {
    this.#stopWaiting();
  }

  /** Tells the clients of connections that were ended before a crash, if that came before they were told. */
  tellUntold(): void {
    const { tables } = this.#options;
    this.#inTurns(() => {
      const untold = tables.connections.ended.untold(TURN_ENDED);
      for (const connection of untold) this.#tellClient(connection, resetsOf(connection, tables));
      return untold.length === TURN_ENDED;
    });
  }

  /** @param resets undefined if there is nobody to tell */
  #tellClient({ slot }: PinnedConnection, resets: Resets | undefined): void {
    if (resets) this.#datapath.execute({ frame: resets.toClient }, [{ op: 'output', port: resets.port }]);
    this.#options.tables.connections.ended.told(slot);
  }

  /**
   * Ends the connections from outside that came in by this host, which has gone, and tells their backends: the first ones
   * before this returns, as above.
   */
  endEntered(vtep: Uint8Array): void {
    const { tables, changes, clock } = this.#options;
    let from = 0;
    this.#inTurns(() => {
      const ended = tables.connections.enteredBy(vtep, TURN_ENDED, { from, to: from + TURN_SCANNED });
      for (const connection of ended) {
        const reset = resetOfBackend(connection, tables);
        changes.changedAll(tables.connections.retire(connection.slot, clock()));
        if (reset) this.#datapath.execute({ frame: reset.frame }, [{ op: 'output', port: reset.port }]);
        tables.connections.ended.told(connection.slot);
      }
      this.enforce();
      if (ended.length < TURN_ENDED) from += TURN_SCANNED;
      return from < tables.connections.slots;
    });
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
    return decide(withCtState(key, tables), tables, head, packetBytes);
  }

  /**
   * Sends a frame that weft has made to where the pipeline decides. The decision is not cached.
   * @param from the port for whose workload weft speaks, or the network in which weft itself asks
   */
  originate(frame: Uint8Array, from: { readonly port: PortNo } | { readonly vni: Vni }): Decision {
    const key = emptyKey();
    extract(frame, key);
    if ('port' in from) writeNumber(key, fields.in_port, from.port);
    else {
      writeNumber(key, fields.in_port, OWN_PORT);
      writeNumber(key, fields.tun_vni, from.vni);
    }
    const decision = this.decide(key, frame);
    if (decision.verdict === 'forward') this.#datapath.execute({ frame }, decision.actions);
    return decision;
  }

  /**
   * Adapts the cached flows to what the tables have changed since the last call. When this returns, no flow that
   * consulted a changed or removed object is stale. Added objects reach cached flows in this turn and the next
   * ones.
   * @returns true if anything has changed
   */
  enforce(): boolean {
    const { changes, clock } = this.#options;
    if (changes.isEmpty) return false;
    const { changed, added } = changes.drain();
    const ids = this.#shed(this.flows.consulting(changed));
    const rest = ids.splice(REDECIDE_LIMIT);
    for (const id of rest) this.flows.withdraw(id);
    this.#withdrawn += rest.length;
    const now = clock();
    for (const id of ids) this.#redecide(id, now);
    if (rest.length > 0) this.#redecideInTurns(rest);
    if (added.length > 0) this.#redecideInTurns(this.#shed(this.flows.consulting(added)));
    this.handle(this.#resolver.take([...changed, ...added]));
    return true;
  }

  forgetPort(port: PortNo): void {
    this.drops.forgetPort(port);
    this.#tooBig.forget(port);
    this.#defences.forget(port);
  }

  /**
   * If there are many floods, removes those that are not worth deciding again now: the ones that no frame had hit, and
   * the least used ones. @returns the other flows
   */
  #shed(ids: FlowId[]): FlowId[] {
    let actions = 0;
    const floods: CachedFlow[] = [];
    for (const id of ids) {
      const flow = this.flows.get(id)!;
      const { length } = flow.decision.actions;
      if (length <= FLOOD_ACTIONS) continue;
      floods.push(flow);
      actions += length;
    }
    if (actions <= REDECIDE_FLOOD_ACTIONS) return ids;
    const shed = new Set<FlowId>();
    for (const flow of floods.sort((a, b) => a.packets - b.packets)) {
      if (actions <= REDECIDE_FLOOD_ACTIONS && flow.packets > 0) break;
      actions -= flow.decision.actions.length;
      shed.add(flow.id);
      this.#drop(flow);
    }
    return ids.filter((id) => !shed.has(id));
  }

  /** Resolves when also what was added has reached all cached flows. */
  async settled(): Promise<void> {
    while (this.#unsettled > 0) await new Promise<void>((resolve) => this.#onSettled.add(resolve));
  }

  #redecideInTurns(ids: readonly FlowId[]): void {
    let at = 0;
    this.#unsettled++;
    this.#inTurns(() => {
      const now = this.#options.clock();
      const end = Math.min(at + TURN_REDECIDED, ids.length);
      while (at < end) this.#redecide(ids[at++]!, now);
      if (at < ids.length) return true;
      this.#unsettled--;
      for (const resolve of this.#onSettled) resolve();
      this.#onSettled.clear();
      return false;
    });
  }

  /** Called about once a second: drops idle flows, refreshes learned entries of live ones, and ages the rest. */
  tick(): void {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    const { clock, flowIdleMs } = this.#options;
    this.#askAgain(clock());
    /** Decisions that learn, and when each was last used. */
    const learning = new Map<Decision, FlowUse>();
    const flows = this.flows.dump();
    this.#inTurns(() => {
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
    this.#inTurns(() => {
      const end = Math.min(at + TURN_REDECIDED, flows.length);
      while (at < end) this.flows.delete(flows[at++]!);
      if (at < flows.length) return true;
      const decision = this.decide(key);
      if (decision.cacheable && decision.mask === mask && !this.#hasNews(decision.effects)) {
        this.#cache(key, decision, this.#options.clock());
      }
      return false;
    });
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
    this.endPinned();
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
    const inOrder = [...learning].sort(([, a], [, b]) => byUse(a, b));
    for (const [{ effects }, { lastUsedMs }] of inOrder) if (!this.#hasNews(effects)) this.#learn(effects, lastUsedMs);
  }

  /** Calls `work` until it returns false: once now, then once in each turn. */
  #inTurns(work: () => boolean): void {
    const { later } = this.#options;
    while (work()) if (later) return later(() => this.#inTurns(work));
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
    if (decision.neighbor) {
      const { vni, ip } = decision.neighbor;
      // Asked before it waits, because flows that wait for a neighbor are decided again when it changes.
      tables.neighbors.ask(vni, ip, now);
      this.enforce();
      if (this.#resolver.wait(decision.neighbor, upcall)) this.#ask(decision.neighbor, now);
      return;
    }

    if (decision.cacheable) decision = this.#cache(key, decision, now)?.decision ?? decision;
    if (decision.reason) {
      this.drops.add(key, decision, now);
      this.#defend(this.clashes.note(upcall, decision.reason, now), now);
    }
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

  /** Asks who has an address. Fails at once if nobody could have it. */
  #ask({ vni, ip }: NeighborName, nowMs: number): void {
    const request = neighborRequest(this.#options.tables.topology, vni, ip);
    if (this.originate(request, { vni }).verdict !== 'forward') this.#fail({ vni, ip }, nowMs);
  }

  /** Asks again for frames that wait, and for neighbors that flows use and that have not been heard of for long. */
  #askAgain(nowMs: number): void {
    const { neighbors, topology } = this.#options.tables;
    const { again, failed } = this.#resolver.tick();
    for (const neighbor of again) this.#ask(neighbor, nowMs);
    for (const neighbor of failed) this.#fail(neighbor, nowMs);
    const { ask, unanswered } = neighbors.takeDue(nowMs, (object) => this.flows.consulting([object]).length > 0);
    for (const neighbor of unanswered) this.#fail(neighbor, nowMs);
    for (const { vni, ip, mac } of ask) {
      const asked = mac && this.originate(neighborRequest(topology, vni, ip, mac), { vni });
      if (!asked || asked.reason === 'no_destination') this.#ask({ vni, ip }, nowMs);
    }
  }

  /** Nobody has answered. Waiting senders are told, even if the table has forgotten that it was asked for. */
  #fail({ vni, ip }: NeighborName, nowMs: number): void {
    this.#options.tables.neighbors.fail(vni, ip, nowMs);
    this.enforce();
    this.handle(this.#resolver.take([neighborObject(vni, ip)]));
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

  #redecide(id: FlowId, nowMs: number): void {
    const flow = this.flows.get(id);
    if (!flow) return;
    this.#redecided++;
    const then = flow.decision;
    const [first] = then.actions;
    // Flows of connections do not know their tuples, so each connection is decided again with its next packet.
    if (flow.isOfConnections) return this.#drop(flow);
    // If its connection has ended, the next frame opens another one or is refused.
    if (first?.op === 'nat' && !this.#options.tables.connections.isOpen(first)) return this.#drop(flow);
    const key = this.flows.readKey(id, this.#key);
    // No frame has this key any more.
    if (withCtState(key, this.#options.tables) !== key) return this.#drop(flow);
    const decided = this.decide(key);
    const decision = balancedDecision(decided) ?? decided;
    const isAlike = decision.cacheable && decision.mask === then.mask && !this.#hasNews(decision.effects);
    if (!isAlike || !this.#putAlone(key, decision, nowMs)) return this.#drop(flow);
    if (decision.reason && decision.reason !== then.reason) this.drops.add(key, decision, nowMs);
  }

  /** Removes the flow, so that its next frame is a miss. */
  #drop({ id, isInForce }: CachedFlow): void {
    if (isInForce) this.#withdrawn++;
    this.flows.delete(id);
  }

  /** True if there is an effect that has not been applied. */
  #hasNews(effects: readonly Effect[]): boolean {
    const { fdb } = this.#options.tables;
    for (const effect of effects) {
      if (effect.kind !== 'learn' || !fdb.isKnownAt(effect.vni, effect.mac, effect.where)) return true;
    }
    return false;
  }
}
