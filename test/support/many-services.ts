/** Very many services, each with three backends of its own, as a store would have them. */
import { parseIp } from '../../src/flow/types.ts';
import type { ProtocolTuple } from '../../src/flow/connection.ts';
import type { Service } from '../../src/table/service.ts';
import { backend, service, tuple } from './services.ts';

const BACKENDS = 3;
/** Behind the addresses that a network has for itself. */
const FIRST = 16;

/** Nothing is shared between them. */
export function* manyServices(count: number): Generator<Service> {
  for (let n = 0; n < count; n++) {
    const backends = Array.from({ length: BACKENDS }, (_, at) => {
      // 10.0.0.0/16 has fewer addresses than there are backends, so that some have the same one.
      const last = (FIRST + BACKENDS * n + at) % 65_536;
      return backend(`10.0.${last >> 8}.${last & 255}`, { endpoint: `default/web-${n}-${at}`, host: `host${n % 3}` });
    });
    yield service({ id: `default/web-${n}`, vips: [vip(n)], backends });
  }
}

/** The nth connection to the service with number `at`. */
export function tupleTo(at: number, nth: number): ProtocolTuple {
  return tuple(nth, { destination: vip(at) });
}

function vip(n: number): Uint8Array {
  return parseIp(`10.96.${n >> 8}.${n & 255}`);
}
