/** What the suites about tracked conversations share: the flows of two ports, and connections that are opened by hand. */
import { connectionBytes, type Place, type Tuple } from '../../src/flow/connection.ts';
import { FIRST_FREE_OWNER, type ConnectionStoreOptions, type GivenUp } from '../../src/flow/connection-store.ts';
import type { Action } from '../../src/flow/action.ts';
import { ctState, fields } from '../../src/flow/fields.ts';
import { emptyKey, writeNumber } from '../../src/flow/key.ts';
import { parseIp } from '../../src/flow/types.ts';
import { tcp, type Ends } from '../support/frames.ts';
import { flowId, maskOf, output, type Harness } from './harness.ts';

export const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
export const places: Readonly<Record<number, Place>> = { 1: 1 as Place, 2: 1 as Place, 3: 1 as Place };
export const there: Ends = { src: '10.0.0.1', dst: '10.0.0.2' };
export const back: Ends = { src: '10.0.0.2', dst: '10.0.0.1' };
/** As an operator would have it: what begins is decided apart from what is known. */
const mask = maskOf('in_port', 'ct_state');
export const track: Action = { op: 'track', replies: 1 as Place, replyFlow: 0 };

export function room(): ConnectionStoreOptions {
  return { memory: new Uint8Array(connectionBytes(12)), limit: 8, quota: 8, unprovenQuota: 8 };
}

export function tuple(sourcePort: number, destinationPort: number, { src, dst }: Ends = there): Tuple {
  return { source: parseIp(src!), destination: parseIp(dst!), sourcePort, destinationPort };
}

/** The flow of what comes in by the port and has that state: its id is `10 · port + state`. */
export function put(h: Harness, port: number, state: number, actions: readonly Action[]): void {
  const key = emptyKey();
  writeNumber(key, fields.in_port, port);
  writeNumber(key, fields.ct_state, state);
  h.dp.flowPut({ id: flowId(10 * port + state), key, mask, actions });
}

/** Each port has flows to the other one for all that can be. */
export function putAll(h: Harness): void {
  for (const port of [1, 2]) {
    put(h, port, ctState.none, [track, ...output(3 - port)]);
    put(h, port, ctState.error, output(3 - port));
    for (const state of [ctState.known, ctState.known_reply])
      put(h, port, state, [{ op: 'count' }, ...output(3 - port)]);
  }
}

/** The state by which the flow of this frame was found. */
export function stateOf(h: Harness, port: number, frame: Uint8Array): string | undefined {
  const counts = () => new Map([...h.dp.flowDump()].map(({ id, packets }) => [Number(id), packets]));
  const before = counts();
  h.inject(port, frame);
  const hit = [...counts()].find(([id, packets]) => packets !== before.get(id))?.[0];
  return Object.entries(ctState).find(([, state]) => state === (hit ?? -1) - 10 * port)?.[0];
}

export const segment = (ends: Ends, ports: readonly [number, number], flags: number): Uint8Array =>
  tcp(ends, { sourcePort: ports[0], destinationPort: ports[1], flags });

/** A translated connection from port 1: its packets go to another port there. Returns its slot. */
export function openTranslated(
  h: Harness,
  protocol: number,
  [sourcePort, destinationPort]: readonly [number, number],
  translatedPort: number,
  pin: number,
  givenUp: readonly GivenUp[] = [],
): number {
  const original = tuple(sourcePort, destinationPort);
  const translated = { ...original, destinationPort: translatedPort };
  const connection = { kind: 'translated', protocol, places: [1 as Place, 1 as Place], original, translated } as const;
  return h.dp.connections.open({ ...connection, ...(pin !== 0 && { pin }) }, FIRST_FREE_OWNER, h.nowMs, givenUp);
}
