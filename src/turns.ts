/** Does long work in several turns of the event loop, so that it delays neither decisions nor other requests. */

/** Lets other work run. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Passes `items` on, and lets other work run after every `perTurn` of them. */
export async function* inTurns<T>(items: Iterable<T>, perTurn: number): AsyncGenerator<T> {
  let passed = 0;
  for (const item of items) {
    if (++passed % perTurn === 0) await nextTurn();
    yield item;
  }
}
