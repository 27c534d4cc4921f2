/** Several resources by one command: one that fails does not keep the others from being handled. */
import { WeftError } from '../error.ts';

/**
 * Handles all items, one after the other.
 * @returns what `act` made of them, and why others failed. A daemon that does not answer ends it at once, since nothing more
 * can be done then.
 */
export async function tryEach<T, R>(
  items: readonly T[],
  act: (item: T) => Promise<R>,
): Promise<{ readonly done: R[]; readonly failures: WeftError[] }> {
  const done: R[] = [];
  const failures: WeftError[] = [];
  for (const item of items) {
    try {
      done.push(await act(item));
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      failures.push(error);
      if (error.code === 'unreachable') break;
    }
  }
  return { done, failures };
}

/** @param hint behind the messages @throws WeftError with all of them on one line, if there are any */
export function throwAll(failures: readonly WeftError[], hint = ''): void {
  const [first] = failures;
  if (!first) return;
  throw new WeftError(first.code, `${failures.map(({ message }) => message).join('; ')}${hint}`, { cause: first });
}
