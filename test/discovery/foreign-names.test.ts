/** How many questions may wait for other name servers. */
import t from 'tap';
import { mayWait, MOST_WAITING } from '../../src/discovery/foreign-names.ts';

/** How many questions wait of each client, if each has as many as it may. */
function greedy(clients: number): number[] {
  const waiting = Array.from({ length: clients }, () => 0);
  let all = 0;
  for (let isOver = false; !isOver; ) {
    isOver = true;
    for (const [client, own] of waiting.entries()) {
      if (!mayWait(own, all)) continue;
      waiting[client] = own + 1;
      all++;
      isOver = false;
    }
  }
  return waiting;
}

t.test('however many clients take all that they may, one more has room', async (t) => {
  for (const clients of [1, 8, 16, 100, 1000]) {
    const waiting = greedy(clients);
    const all = waiting.reduce((sum, own) => sum + own, 0);
    t.ok(mayWait(0, all), `beside ${clients}, of which ${all} wait`);
    t.ok(all < MOST_WAITING.ofAll);
  }
  t.same(greedy(1), [MOST_WAITING.ofClient], 'one alone has all that one may have');
  t.same(
    greedy(8),
    Array.from({ length: 8 }, () => MOST_WAITING.ofClient),
    'and so have eight',
  );
  t.notOk(mayWait(0, MOST_WAITING.ofAll), 'there is an end');
});
