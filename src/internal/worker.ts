/**
 * The thread of weft's own sockets.
 *
 *   1. it loads the modules that answer, and opens them, while it is in the namespace of the host
 *   2. it opens the UDP sockets in the namespace, with larger buffers than others may have
 *   3. it enters the namespace for good, and gives up its capabilities: it reads what containers send
 *   4. it reads from these sockets, and opens those for TCP
 *   5. for each datagram and connection, it finds out which client has sent it, and passes it on
 *
 * The address that a socket sees stands for a client (`table/clients.ts`). The switch tells this thread of
 * each client before any packet of it can arrive, so nobody is asked when one does: at most, the message
 * is still waiting, and is read then. What comes from a client that has gone is dropped.
 *
 * As a thread of its own, it has clocks, timers and random numbers of its own, and passes them to what it opens.
 */
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, isIPv6 } from 'node:net';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { enterNetns, openUdp } from '../addon/netns.ts';
import { parseIp } from '../flow/types.ts';
import { SOCKET_QUEUE } from '../forwarding/rates.ts';
import { clientOfAddress, type SocketClient } from '../table/clients.ts';
import { Shares, type ShareLimits } from './shares.ts';
import type { FromThread, ThreadStart, ToThread } from './messages.ts';
import type { Answerer, OpenServer, ServerPort, ServerSurroundings } from './server.ts';

/** How many connections to all servers may be open. */
const LIMITS: ShareLimits = { ofAll: 1024, ofClient: 64 };

/** How much may wait to be read from a UDP socket. The kernel allows twice as much, and counts about a KiB for each small datagram. */
const RECEIVE_BYTES = SOCKET_QUEUE * 512;

/** Where a server listens. */
interface Listener extends ServerPort {
  readonly address: string;
  readonly answerer: Answerer;
}

interface Bound extends Listener {
  readonly fd: number;
}

const port = parentPort!;
const { descriptor, addresses, servers, clients } = workerData as ThreadStart;
const known = new Map(clients.map((client) => [client.id, client]));
const shares = new Shares(LIMITS);

const surroundings: Omit<ServerSurroundings, 'tell'> = {
  clock: () => performance.now(),
  after: (delayMs, work) => {
    const timeout = setTimeout(work, delayMs);
    return () => clearTimeout(timeout);
  },
  randomBelow: (limit) => randomInt(limit),
  onFailed: failed,
};
const opened: Answerer[] = [];
for (const [server, { module }] of servers.entries()) {
  const { default: open } = (await import(module)) as { default: OpenServer };
  opened.push(open({ ...surroundings, tell: (said) => tell({ kind: 'said', server, said }) }));
}
const sockets = servers.flatMap(({ listening }, at) =>
  listening.flatMap(({ protocol, l4Port }) =>
    addresses.map((address) => ({ protocol, l4Port, address, answerer: opened[at]! })),
  ),
);
const bound = sockets
  .filter(({ protocol }) => protocol === 'UDP')
  .map((one) => ({ ...one, fd: openUdp(descriptor, parseIp(one.address), one.l4Port, RECEIVE_BYTES) }));
enterNetns(descriptor);
port.on('message', take);
for (const one of bound) receive(one);
for (const one of sockets) if (one.protocol === 'TCP') await openTcp(one);
tell({ kind: 'listening' });

/** Takes what comes to a UDP socket. */
function receive({ address, answerer, fd }: Bound): void {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  socket.on('message', (message, from) => {
    if (from.port === 0) return; // nobody can be answered there, and `send` throws
    const client = clientAt(from.address);
    const answer = (bytes: Uint8Array): void => socket.send(bytes, from.port, from.address, () => {});
    if (client) attempt(() => answerer.datagram?.(message, client, answer));
  });
  socket.bind({ fd });
}

async function openTcp({ l4Port, address, answerer }: Listener): Promise<void> {
  // A client may end its side as soon as it has asked.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const client = clientAt(socket.remoteAddress ?? '');
    socket.on('error', () => {}); // clients may break off at any time
    const isTaken = client && shares.take(client.id, socket) && attempt(() => answerer.connection?.(socket, client));
    if (!isTaken) socket.destroy();
  });
  server.listen({ host: address, port: l4Port, exclusive: true });
  await once(server, 'listening');
}

function clientAt(address: string): SocketClient | undefined {
  if (address === '') return undefined; // it has gone already
  const id = clientOfAddress(parseIp(address));
  if (!known.has(id)) {
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) take(next.message as ToThread);
  }
  return known.get(id);
}

function take(message: ToThread): void {
  if (message.kind === 'added') return void known.set(message.client.id, message.client);
  if (message.kind === 'removed') {
    known.delete(message.id);
    return shares.end(message.id);
  }
  attempt(() => opened[message.server]!.told?.(message.piece));
  tell({ kind: 'knows', server: message.server });
}

/** @returns false if it has failed; what fails later is only told */
function attempt(work: () => void | Promise<void>): boolean {
  try {
    const result = work();
    if (result instanceof Promise) result.catch(failed);
    return true;
  } catch (error) {
    failed(error);
    return false;
  }
}

function failed(error: unknown): void {
  tell({ kind: 'failed', text: error instanceof Error ? (error.stack ?? error.message) : String(error) });
}

function tell(message: FromThread): void {
  port.postMessage(message);
}
