/** The flow hash: fixed values, since the addon computes them, too; and what it must not depend on. */
import t from 'tap';
import { extract } from '../../src/flow/extract.ts';
import { entropyPort, ENTROPY_FIRST_PORT, ENTROPY_PORTS, flowHash } from '../../src/flow/hash.ts';
import { emptyKey } from '../../src/flow/key.ts';
import * as frames from '../support/frames.ts';

function keyOf(frame: Uint8Array): Uint8Array {
  const key = emptyKey();
  t.ok(extract(frame, key).ok);
  return key;
}

t.test('fragments of one datagram share a hash', async (t) => {
  const first = keyOf(frames.udp({ ip4: { moreFragments: true } }, 7, 9, new Uint8Array(8)));
  const later = keyOf(frames.ip({ ip4: { fragmentOffset: 16 } }, 17, new Uint8Array(8)));
  t.equal(flowHash(first), flowHash(later));
});

t.test('it does not depend on tunnel, port, TTL or TOS', async (t) => {
  const key = keyOf(frames.udp({}, 7, 9));
  const other = keyOf(frames.udp({ ip4: { ttl: 1, tos: 4 } }, 7, 9));
  other.fill(0x55, 0, 24);
  t.equal(flowHash(key), flowHash(other));
  t.not(flowHash(key), flowHash(keyOf(frames.udp({}, 8, 9))));
});

t.test('flows spread over the ports', async (t) => {
  const PARTS = 64;
  const counts = new Map<number, number>();
  for (let port = 1; port <= 6400; port++) {
    const key = emptyKey();
    extract(frames.udp({}, port, 53), key);
    const source = entropyPort(key);
    t.ok(source >= ENTROPY_FIRST_PORT && source <= 65_535);
    const part = Math.floor(((source - ENTROPY_FIRST_PORT) * PARTS) / ENTROPY_PORTS);
    counts.set(part, (counts.get(part) ?? 0) + 1);
  }
  t.equal(counts.size, PARTS);
  t.ok(Math.max(...counts.values()) < 160, 'none of 64 parts has more than 1.6 of its share');
});

t.test('the value is fixed', async (t) => {
  t.equal(flowHash(emptyKey()), 0x5673085d);
  t.equal(flowHash(keyOf(frames.tcp({}, { sourcePort: 1234, destinationPort: 80 }))), 0x6bb03fe4);
});
