/** Does long work in several turns of the event loop, so that it delays neither decisions nor other requests. */

/** Lets other work run. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * Does `work` for each of `items`, one after the other, and lets other work run after every `perTurn` of them.
 * @param rest what passes until the next turn
 */
export async function eachInTurns<T>(
  items: Iterable<T>,
  perTurn: number,
  work: (item: T) => void | Promise<void>,
  rest = nextTurn,
): Promise<void> {
  let done = 0;
  for (const item of items) {
    if (++done % perTurn === 0) await rest();
    const working = work(item);
    if (working) await working;
  }
}

/** Passes `items` on, and lets other work run after every `perTurn` of them. */
export async function* inTurns<T>(items: Iterable<T>, perTurn: number): AsyncGenerator<T> {
  let passed = 0;
  for (const item of items) {
    if (++passed % perTurn === 0) await nextTurn();
    yield item;
  }
}
