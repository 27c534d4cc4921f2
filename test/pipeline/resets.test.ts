/** Whom weft tells that a connection has ended, by what its two ends have sent. */
import t from 'tap';
import { SEEN_ACK, SEEN_FIN, SEEN_RST, SEEN_SYN, type Half } from '../../src/flow/connection.ts';
import { parseIp, parseMac, type PortNo, type Vni } from '../../src/flow/types.ts';
import { resetsOf } from '../../src/pipeline/resets.ts';
import type { Tables } from '../../src/pipeline/stage.ts';
import { IP_TCP, IP_UDP } from '../../src/wire/ipv4.ts';

const OPEN = SEEN_SYN | SEEN_ACK;
const PORT = 7 as PortNo;
const client = parseMac('02:00:00:00:00:0b');
const tables = {
  neighbors: { resolve: () => client },
  fdb: { lookup: () => ({ where: { kind: 'port', port: PORT } }) },
} as unknown as Tables;
const [source, vip, backend] = ['10.1.0.2', '10.96.0.1', '10.1.0.9'].map(parseIp) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
];
const tuple = { source, sourcePort: 1024, destination: vip, destinationPort: 80 };

function told(seen: number, replySeen: number, protocol = IP_TCP): boolean {
  const half = (of: number): Half => ({ lastSeenMs: 0, packets: 1, bytes: 60, end: 100, acked: 50, seen: of });
  const resets = resetsOf(
    {
      ...{ kind: 'translated', slot: 0, protocol, places: [100 as Vni, 100 as Vni], original: tuple, pin: 1 },
      translated: { ...tuple, destination: backend, destinationPort: 8080 },
      halves: [half(seen), half(replySeen)],
    },
    tables,
  );
  if (resets) t.equal(resets.port, PORT);
  return resets !== undefined;
}

t.test('both ends of a connection that is open are told', (t) => {
  t.equal(told(OPEN, OPEN), true);
  t.equal(told(SEEN_SYN, 0), true, 'also while it opens');
  t.equal(told(OPEN | SEEN_FIN, OPEN), true, 'and while it closes');
  t.equal(told(OPEN, OPEN, IP_UDP), false);
  t.end();
});

t.test('nobody is told what he knows', (t) => {
  t.equal(told(OPEN | SEEN_FIN, OPEN | SEEN_FIN), false);
  t.equal(told(OPEN, OPEN | SEEN_RST), false);
  t.end();
});

t.test('a crash between the reset to the backend, which seems to be the client’s, and the one to the client', (t) => {
  t.equal(told(OPEN | SEEN_RST, OPEN), true);
  t.end();
});
