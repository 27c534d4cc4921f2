/** Does long work in several turns of the event loop, so that it delays neither decisions nor other requests. */

/** Lets other work run. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export interface TurnOptions<T> {
  /** What passes until the next turn. */
  readonly rest?: () => Promise<void>;
  /** For how many items one counts; 1 by default. */
  readonly weightOf?: (item: T) => number;
}

/** Does `work` for each of `items`, one after the other, and lets other work run after every `perTurn` of them. */
export async function eachInTurns<T>(
  items: Iterable<T>,
  perTurn: number,
  work: (item: T) => void | Promise<void>,
  { rest = nextTurn, weightOf = one }: TurnOptions<T> = {},
): Promise<void> {
  let done = 0;
  for (const item of items) {
    const weight = weightOf(item);
    done += weight;
    if (done >= perTurn) {
      await rest();
      done = weight;
    }
    const working = work(item);
    if (working) await working;
  }
  // What follows is not done in the turn of an item that takes one by itself.
  if (done > perTurn) await rest();
}

/** Passes `items` on, and lets other work run after every `perTurn` of them. @param weightOf as in `TurnOptions` */
export async function* inTurns<T>(
  items: Iterable<T>,
  perTurn: number,
  weightOf: (item: T) => number = one,
): AsyncGenerator<T> {
  let passed = 0;
  for (const item of items) {
    const weight = weightOf(item);
    passed += weight;
    if (passed >= perTurn) {
      await nextTurn();
      passed = weight;
    }
    yield item;
  }
}

const one = (): number => 1;
