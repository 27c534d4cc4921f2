/**
 * All descriptors of this process that the next daemon may need: those of open ports, and spare ones that came
 * from elsewhere (a daemon that was replaced, the holder, systemd) and that no port uses yet.
 *
 * A port that is opened takes the place of the spare ones of its name. While weft runs, a keeper has
 * duplicates of all that are worth keeping, so that they survive a crash.
 */
import { closeSync } from 'node:fs';
import { duplicate } from '../addon/passing.ts';
import { tapOfDescriptors, type PortDescriptors, type SpareTap } from '../flow/descriptors.ts';

/** Another process that has duplicates: `holder.ts`, `systemd.ts`. */
export interface Keeper {
  /** In place of those that it has under this name. Both return when that is done, and neither throws. */
  put(name: string, descriptors: readonly number[]): void;
  drop(name: string): void;
  /** The names that it has. */
  names(): readonly string[];
  /** weft stops. With `purge`, nothing of its ports stays, so none of these may, either. */
  end(how: { readonly purge: boolean }): void;
}

/** Some descriptors, by the name of what they lead to. */
export interface Named {
  readonly name: string;
  readonly descriptors: readonly number[];
}

export class Descriptors implements PortDescriptors {
  readonly #open = new Map<string, readonly number[]>();
  readonly #spare = new Map<string, readonly number[]>();
  #keeper: Keeper | undefined;
  #isContinued = false;

  /** @param spare which belong to this from now on */
  constructor(spare: Iterable<Named> = []) {
    for (const { name, descriptors } of spare) this.addSpare(name, descriptors);
  }

  /** These belong to this from now on. */
  addSpare(name: string, descriptors: readonly number[]): void {
    this.#closeSpare(name);
    this.#spare.set(name, descriptors);
  }

  spareTaps(): readonly SpareTap[] {
    return [...this.#spare].flatMap(([name, descriptors]) => {
      const tap = tapOfDescriptors(name);
      return tap ? [{ ...tap, descriptors }] : [];
    });
  }

  spare(name: string): readonly number[] {
    return this.#spare.get(name) ?? [];
  }

  /** Is a TAP of this namespace open without a port, and since when: `held` for some time, or until just now? */
  left({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): 'held' | 'continued' | undefined {
    if (!this.spareTaps().some((tap) => tap.dev === dev && tap.ino === ino)) return undefined;
    return this.#isContinued ? 'continued' : 'held';
  }

  /** The spare ones are those of a daemon that has forwarded until just now. */
  get isContinued(): boolean {
    return this.#isContinued;
  }

  /** All spare ones are from a daemon that has just stopped forwarding, and this one goes on. */
  continue(): void {
    this.#isContinued = true;
  }

  /** A spare one, which belongs to the caller from then on. */
  take(name: string): number | undefined {
    const [first, ...others] = this.#spare.get(name) ?? [];
    closeAll(others);
    this.#spare.delete(name);
    return first;
  }

  /** All spare ones. They stay this object's. */
  allSpare(): Named[] {
    return [...this.#spare].map(([name, descriptors]) => ({ name, descriptors }));
  }

  opened(name: string, descriptors: readonly number[]): void {
    this.#open.set(name, descriptors);
    this.#closeSpare(name);
    if (isKept(name)) this.#keeper?.put(name, descriptors);
  }

  closing(name: string): void {
    if (!this.#open.delete(name)) return;
    if (isKept(name)) this.#keeper?.drop(name);
  }

  /** From now on, `keeper` has duplicates of what is open, and of nothing else. */
  keepWith(keeper: Keeper): void {
    this.#keeper = keeper;
    const kept = [...this.#open].filter(([name]) => isKept(name));
    for (const [name, descriptors] of kept) keeper.put(name, descriptors);
    for (const name of keeper.names()) if (!this.#open.has(name)) keeper.drop(name);
  }

  /** weft stops: nothing is kept any more. */
  endKeeping(how: { readonly purge: boolean }): void {
    this.#keeper?.end(how);
    this.#keeper = undefined;
  }

  /**
   * Everything that is open will be closed now without being given up: duplicates of it become spare. The keeper is
   * told nothing of that. @throws WeftError if there are too few descriptors; then nothing has changed
   */
  retain(): void {
    const duplicates: Named[] = [];
    try {
      for (const [name, descriptors] of this.#open) {
        const own: number[] = [];
        duplicates.push({ name, descriptors: own });
        for (const one of descriptors) own.push(duplicate(one));
      }
    } catch (error) {
      for (const { descriptors } of duplicates) closeAll(descriptors);
      throw error;
    }
    this.#open.clear();
    for (const { name, descriptors } of duplicates) this.addSpare(name, descriptors);
    this.continue();
  }

  /** Closes those that no port has taken. */
  closeSpare(): void {
    for (const name of [...this.#spare.keys()]) this.#closeSpare(name);
    this.#isContinued = false;
  }

  #closeSpare(name: string): void {
    closeAll(this.#spare.get(name) ?? []);
    this.#spare.delete(name);
  }
}

export function closeAll(descriptors: readonly number[]): void {
  for (const one of descriptors) closeSync(one);
}

/** The name of the listening socket for Docker. The holder knows it, too. */
export const DOCKER_DESCRIPTOR = 'docker';

/** Not the lock of the state directory, which ends with its daemon, nor the listening socket of the API, whose clients ask again. */
function isKept(name: string): boolean {
  return name === DOCKER_DESCRIPTOR || /^(?:tap|vxlan)-/.test(name);
}
