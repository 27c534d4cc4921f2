/**
 * Which flow the replies of a new connection will most likely take: the one that those of the last connection took which
 * differed in nothing but the port of its client. A connection that begins with it needs no decision about its first reply.
 *
 * It is a guess. The datapath uses the flow of a connection only for packets that it covers. What else a decision about a
 * reply depends on is the connection itself: its places, its protocol and its ends, but not the port of a client within a
 * network, which only tells connections apart. What goes back to a client outside is also judged by its port, or by the host
 * by which it came in, so there is no guess for that.
 */
import type { ConnectionTuples } from '../flow/connection.ts';
import { bytesId } from '../flow/key.ts';
import type { FlowId } from '../flow/types.ts';
import { isFromOutside } from '../table/connection-ways.ts';

/** So many pairs of clients and servers are remembered; those that were noted first make room. */
const MOST_PAIRS = 4096;

export class ReplyFlows {
  readonly #flows = new Map<string, FlowId>();

  /** Replies of this connection take that flow. */
  note(connection: ConnectionTuples, flow: FlowId): void {
    if (isFromOutside(connection)) return;
    const pair = pairOf(connection);
    if (!this.#flows.has(pair) && this.#flows.size >= MOST_PAIRS) this.#flows.delete(this.#flows.keys().next().value!);
    this.#flows.set(pair, flow);
  }

  /** The flow may be gone. */
  find(connection: ConnectionTuples): FlowId | undefined {
    return this.#flows.get(pairOf(connection));
  }
}

/** All of a connection but the ports of its client. */
function pairOf({ places, protocol, original, translated }: ConnectionTuples): string {
  const ends = [original.source, original.destination, translated.source, translated.destination].map(bytesId);
  return [...places, protocol, original.destinationPort, translated.destinationPort, ...ends].join(' ');
}
