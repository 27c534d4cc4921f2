/** Does long work in several turns of the event loop, so that it delays neither decisions nor other requests. */

/** Passes `items` on, and lets other work run after every `perTurn` of them. */
export async function* inTurns<T>(items: Iterable<T>, perTurn: number): AsyncGenerator<T> {
  let passed = 0;
  for (const item of items) {
    if (++passed % perTurn === 0) await new Promise((resolve) => setImmediate(resolve));
    yield item;
  }
}
