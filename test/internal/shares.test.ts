/** How the connections to weft's own sockets are shared among clients. */
import { EventEmitter } from 'node:events';
import t from 'tap';
import { Shares } from '../../src/internal/shares.ts';

class Connection extends EventEmitter {
  isOpen = true;

  destroy(): void {
    this.isOpen = false;
    this.emit('close');
  }
}

function lab() {
  const shares = new Shares({ ofAll: 6, ofClient: 4 });
  /** Opens so many; returns those that may be open. */
  const open = (client: number, count: number): Connection[] =>
    Array.from({ length: count }, () => new Connection()).filter((connection) => shares.take(client, connection));
  return { shares, open };
}

const openOf = (connections: readonly Connection[]): boolean[] => connections.map(({ isOpen }) => isOpen);

t.test('one client has its share, and gets it back', async (t) => {
  const { open } = lab();
  const connections = open(1, 5);
  t.equal(connections.length, 4);
  connections[0]!.destroy();
  t.equal(open(1, 2).length, 1);
});

t.test('those that hold all do not keep out one that has few', async (t) => {
  const { open } = lab();
  const [greedy, others] = [open(1, 4), open(2, 2)];
  const late = open(3, 3);
  t.same(openOf(late), [true, true], 'the third would be more than the others have');
  t.same(openOf(greedy), [false, false, true, true], 'the oldest ones make room');
  t.same(openOf(others), [true, true]);
  t.equal(open(2, 1).length, 0, 'who has no less than the others takes nothing from them');
  greedy[2]!.destroy();
  t.equal(open(2, 1).length, 1);
});

t.test('they end with their client', async (t) => {
  const { shares, open } = lab();
  const connections = open(1, 4);
  open(2, 2);
  shares.end(1);
  t.same(openOf(connections), [false, false, false, false]);
  t.equal(open(3, 4).length, 4, 'there is room again');
  shares.end(4);
});
