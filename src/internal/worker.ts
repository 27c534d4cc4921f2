/**
 * The thread of weft's own sockets.
 *
 *   1. it enters the namespace for good, and gives up its capabilities: it reads what containers send
 *   2. it loads the modules that answer, and opens their sockets
 *   3. for each datagram and connection, it finds out which client has sent it, and passes it on
 *
 * The address that a socket sees stands for a client (`table/clients.ts`). The switch tells this thread of
 * each client before any packet of it can arrive, so nobody is asked when one does: at most, the message
 * is still waiting, and is read then. What comes from a client that has gone is dropped.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, isIPv6, type Socket } from 'node:net';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { enterNetns } from '../addon/netns.ts';
import { parseIp } from '../flow/types.ts';
import { clientOfAddress, type SocketClient } from '../table/clients.ts';
import type { FromThread, ThreadStart, ToThread } from './messages.ts';
import type { Answerer, ServerSpec } from './server.ts';

/** Connections to one server: of all clients, and of one. */
const MOST_CONNECTIONS = 1024;
const MOST_OF_CLIENT = 64;

const port = parentPort!;
const { descriptor, addresses, servers, clients } = workerData as ThreadStart;
const known = new Map(clients.map((client) => [client.id, client]));
const sockets = new Map<number, Set<Socket>>();

enterNetns(descriptor);
port.on('message', take);
for (const server of servers) {
  const { default: answerer } = (await import(server.module)) as { default: Answerer };
  for (const address of addresses) await (server.protocol === 'UDP' ? openUdp : openTcp)(server, answerer, address);
}
tell({ kind: 'listening' });

async function openUdp({ l4Port }: ServerSpec, answerer: Answerer, address: string): Promise<void> {
  const socket = createSocket(isIPv6(address) ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' });
  socket.on('message', (message, from) => {
    if (from.port === 0) return; // nobody can be answered there, and `send` throws
    const client = clientAt(from.address);
    const answer = (bytes: Uint8Array): void => socket.send(bytes, from.port, from.address, () => {});
    if (client) attempt(() => answerer.datagram?.(message, client, answer));
  });
  socket.bind({ address, port: l4Port, exclusive: true });
  await once(socket, 'listening');
}

async function openTcp({ l4Port }: ServerSpec, answerer: Answerer, address: string): Promise<void> {
  const server = createServer((socket) => {
    const client = clientAt(socket.remoteAddress ?? '');
    const isTaken = client && note(socket, client) && attempt(() => answerer.connection?.(socket, client));
    if (!isTaken) socket.destroy();
  });
  server.maxConnections = MOST_CONNECTIONS;
  server.listen({ host: address, port: l4Port, exclusive: true });
  await once(server, 'listening');
}

/** Notes a connection of the client. False if it has too many. */
function note(socket: Socket, { id }: SocketClient): boolean {
  const all = sockets.get(id) ?? new Set();
  if (all.size >= MOST_OF_CLIENT) return false;
  sockets.set(id, all.add(socket));
  socket.once('close', () => all.delete(socket));
  // Clients may break off at any time.
  socket.on('error', () => {});
  return true;
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
  known.delete(message.id);
  for (const socket of sockets.get(message.id) ?? []) socket.destroy();
  sockets.delete(message.id);
}

function attempt(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    tell({ kind: 'failed', text: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    return false;
  }
}

function tell(message: FromThread): void {
  port.postMessage(message);
}
