/**
 * Far resets: what tells the ends of ended connections that are on other hosts.
 *
 * Nobody acknowledges a reset, and on its way through the tunnel it may be lost: above all, the daemon of the other host may just
 * have died, which is not known before it has been silent for a while. An end that waits to be told something would wait for ever.
 * So each reset is sent again after one second, three and nine: an end that knows ignores it. If the other host is known to be down,
 * all of that waits until it is back.
 *
 * The record of the connection says what is to be sent, and that it is not over yet: whatever takes its place ends this, and a crash
 * does not.
 *
 * Owned by the thread of the switch.
 */
import type { Datapath } from '../datapath/datapath.ts';
import type { GivenUp } from '../flow/connection-store.ts';
import { bytesId } from '../flow/key.ts';
import { farResetOf } from '../pipeline/resets.ts';
import type { Tables } from '../pipeline/stage.ts';
import type { PinnedConnection } from '../table/ended-connections.ts';
import { inTurns, type Later } from './turns.ts';

export interface FarResetsOptions {
  readonly tables: Tables;
  readonly datapath: Datapath;
  readonly clock: () => number;
  readonly later: Later | undefined;
}

interface Repeated extends GivenUp {
  readonly dueMs: number;
}

/** How long after the one before each is sent again. */
const DELAYS_MS = [1000, 3000, 9000] as const;
/** How many are sent in one turn. */
const TURN_SENT = 256;

export class FarResets {
  readonly #options: FarResetsOptions;
  /** By how often each was sent again, in the order in which they are due. */
  readonly #repeated: Repeated[][] = DELAYS_MS.map(() => []);
  /** By VTEP: those for a host that is down. */
  readonly #waiting = new Map<string, { readonly vtep: Uint8Array; readonly all: GivenUp[] }>();
  #isSending = false;

  constructor(options: FarResetsOptions) {
    this.#options = options;
  }

  /**
   * An ended connection was reset. If one of its ends is on another host, that reset is sent again.
   * @returns false if none is
   */
  add(connection: PinnedConnection): boolean {
    const { tables } = this.#options;
    if (!farResetOf(connection, tables)) return false;
    const { slot } = connection;
    this.#repeat({ slot, generation: tables.connections.generationAt(slot) }, 0);
    return true;
  }

  /** Called about once a second: sends those that are due. */
  tick(): void {
    if (this.#isSending) return;
    const { tables, clock, later } = this.#options;
    const { vteps } = tables.topology;
    const now = clock();
    const due: { readonly one: GivenUp; readonly next: number }[] = this.#repeated.flatMap((all, times) => {
      const first = all.findIndex(({ dueMs }) => dueMs > now);
      return all.splice(0, first < 0 ? all.length : first).map((one) => ({ one, next: times + 1 }));
    });
    for (const [id, { vtep, all }] of this.#waiting) {
      if (vteps.isDown(vtep)) continue;
      this.#waiting.delete(id);
      for (const one of all) due.push({ one, next: 0 });
    }
    let at = 0;
    this.#isSending = due.length > 0;
    inTurns(later, () => {
      for (const { one, next } of due.slice(at, (at += TURN_SENT))) this.#send(one, next);
      this.#isSending = at < due.length;
      return this.#isSending;
    });
  }

  /** @param next which of the delays follows */
  #send({ slot, generation }: GivenUp, next: number): void {
    const { tables, datapath } = this.#options;
    const { connections, topology } = tables;
    if (!connections.isOpen({ slot, generation }) || !connections.ended.has(slot)) return;
    const far = farResetOf(connections.pinnedAt(slot), tables);
    // While it was read, a thread of the datapath may have given it up and put another one there.
    if (!connections.isOpen({ slot, generation })) return;
    if (far && topology.vteps.isDown(far.vtep)) return this.#wait(far.vtep, { slot, generation });
    if (far) datapath.execute({ frame: far.frame }, [{ op: 'encap', vni: far.vni, vtep: far.vtep }]);
    if (far && next < DELAYS_MS.length) this.#repeat({ slot, generation }, next);
    else connections.ended.told(slot, generation);
  }

  #repeat(one: GivenUp, times: number): void {
    const dueMs = this.#options.clock() + DELAYS_MS[times]!;
    this.#repeated[times]!.push({ ...one, dueMs });
  }

  #wait(vtep: Uint8Array, one: GivenUp): void {
    const id = bytesId(vtep);
    const others = this.#waiting.get(id);
    if (others) others.all.push(one);
    else this.#waiting.set(id, { vtep, all: [one] });
  }
}
