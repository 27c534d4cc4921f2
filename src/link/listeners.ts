/** Which ports programs of this host listen on, in the network namespace that this process is in (proc_net(5)). */
import { readFileSync } from 'node:fs';
import { formatIp, isIp4, parseIp, sameBytes } from '../flow/types.ts';

export interface ListenQuestion {
  readonly protocol: 'TCP' | 'UDP';
  readonly l4Port: number;
  readonly family: 4 | 6;
  /** An address of its family; any if it is not given. */
  readonly ip?: string | undefined;
}

/** The state LISTEN for TCP, unconnected for UDP (net/tcp_states.h). */
const LISTENING = { TCP: '0A', UDP: '07' } as const;

/**
 * The address, as text, of a socket that receives what other machines send to this port. A
 * socket that listens only on the loopback does not count.
 */
export function findListener(question: ListenQuestion): string | undefined {
  return findListeners([question])[0];
}

/** The same for several ports, in their order. */
export function findListeners(questions: readonly ListenQuestion[]): (string | undefined)[] {
  const known = new Map<string, Socket[]>();
  const socketsOf = (protocol: 'TCP' | 'UDP', family: 4 | 6): readonly Socket[] => {
    const id = `${protocol}${family}`;
    const found = known.get(id) ?? sockets(protocol, family).filter(({ address }) => !isLoopback(address));
    known.set(id, found);
    return found;
  };
  return questions.map(({ protocol, l4Port, family, ip }) => {
    const wanted = ip === undefined ? undefined : parseIp(ip);
    const found = socketsOf(protocol, family).find(
      ({ address, port }) => port === l4Port && (wanted === undefined || isAny(address) || sameBytes(address, wanted)),
    );
    return found && formatIp(found.address);
  });
}

interface Socket {
  readonly address: Uint8Array;
  readonly port: number;
}

/** An IPv6 socket on any address also serves IPv4, unless it says otherwise, which cannot be seen here. */
function sockets(protocol: 'TCP' | 'UDP', family: 4 | 6): Socket[] {
  const name = protocol.toLowerCase();
  const found = read(`${name}6`, LISTENING[protocol]);
  if (family === 6) return found.filter(({ address }) => !isIp4(address));
  return [...read(name, LISTENING[protocol]), ...found.filter(({ address }) => isIp4(address) || isAny(address))];
}

function read(file: string, state: string): Socket[] {
  let text: string;
  try {
    text = readFileSync(`/proc/net/${file}`, 'utf8');
  } catch {
    return []; // a kernel without IPv6
  }
  return [...text.matchAll(/^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ ([0-9A-F]{2}) /gm)]
    .filter(([, , , found]) => found === state)
    .map(([, address = '', port = '']) => ({ address: addressOf(address), port: Number.parseInt(port, 16) }));
}

/** Words of 32 bits in this machine's byte order. */
function addressOf(hex: string): Uint8Array {
  const bytes = Buffer.from(hex, 'hex').swap32();
  return bytes.length === 4 ? parseIp(bytes.join('.')) : new Uint8Array(bytes);
}

function isAny(address: Uint8Array): boolean {
  return ['0.0.0.0', '::'].includes(formatIp(address));
}

function isLoopback(address: Uint8Array): boolean {
  const text = formatIp(address);
  return text === '::1' || text.startsWith('127.');
}
