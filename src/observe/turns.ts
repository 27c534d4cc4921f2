/** Long reports are made in turns of the event loop, so that decisions and other questions do not wait for them. */

/** Passes `items` on; other work gets its turn after every `perTurn` of them. */
export async function* inTurns<T>(items: Iterable<T>, perTurn: number): AsyncGenerator<T> {
  let passed = 0;
  for (const item of items) {
    if (++passed % perTurn === 0) await new Promise((resolve) => setImmediate(resolve));
    yield item;
  }
}
