/** Which ports programs of this host listen on, in the network namespace that this process is in (proc_net(5)). */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
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

/** What podman leaves beside each container. It holds sockets at the ports that podman publishes, and accepts nothing there. */
const RESERVING = 'conmon';

/**
 * The address, as text, of a socket that receives what other machines send to this port. A
 * socket that listens only on the loopback does not count, nor one that only reserves the port for a container.
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
  let ofReserving: ReadonlySet<string> | undefined;
  return questions.map(({ protocol, l4Port, family, ip }) => {
    const wanted = ip === undefined ? undefined : parseIp(ip);
    const found = socketsOf(protocol, family).filter(
      ({ address, port }) => port === l4Port && (wanted === undefined || isAny(address) || sameBytes(address, wanted)),
    );
    const reserved = found.length > 0 ? (ofReserving ??= socketsOfReserving()) : new Set<string>();
    const listener = found.find(({ inode }) => !reserved.has(inode));
    return listener && formatIp(listener.address);
  });
}

/** The ports that programs of this host have at 127.0.0.1 for themselves: `8080/tcp`. Other things go on while the kernel lists them. */
export async function loopbackPorts(): Promise<ReadonlySet<string>> {
  const loopback = parseIp('127.0.0.1');
  const of = async (protocol: 'TCP' | 'UDP'): Promise<string[]> => {
    const name = protocol.toLowerCase();
    // A socket of IPv6 may be bound to ::ffff:127.0.0.1.
    const files = await Promise.all([name, `${name}6`].map((file) => readFile(pathOf(file), 'utf8').catch(() => '')));
    const all = files.flatMap((text) => listening(text, LISTENING[protocol]));
    return all.filter(({ address }) => sameBytes(address, loopback)).map(({ port }) => `${port}/${name}`);
  };
  return new Set((await Promise.all([of('TCP'), of('UDP')])).flat());
}

interface Socket {
  readonly address: Uint8Array;
  readonly port: number;
  readonly inode: string;
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
    text = readFileSync(pathOf(file), 'utf8');
  } catch {
    return []; // a kernel without IPv6
  }
  return listening(text, state);
}

const pathOf = (file: string): string => `/proc/net/${file}`;

/** Of many sockets, few listen: only their lines are looked at more closely. */
function listening(text: string, state: string): Socket[] {
  return text.split('\n').flatMap((line) => {
    const found = line.includes(` ${state} `)
      ? /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ ([0-9A-F]{2}) \S+ \S+ \S+ +\d+ +\d+ (\d+)/.exec(line)
      : null;
    if (found?.[3] !== state) return [];
    const [, address = '', port = '', , inode = ''] = found;
    return { address: addressOf(address), port: Number.parseInt(port, 16), inode };
  });
}

/** The inodes of the sockets of all `RESERVING`, but for those that another program has, too. */
function socketsOfReserving(): ReadonlySet<string> {
  const found = new Set<string>();
  const others = new Set<string>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const isReserving = readFileSync(`/proc/${entry}/comm`, 'utf8').trim() === RESERVING;
      for (const descriptor of readdirSync(`/proc/${entry}/fd`)) {
        const [, inode] = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${entry}/fd/${descriptor}`)) ?? [];
        if (inode !== undefined) (isReserving ? found : others).add(inode);
      }
    } catch {
      // It has ended, or we may not look at it.
    }
  }
  return new Set([...found].filter((inode) => !others.has(inode)));
}

/** Empty for one that has been closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
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
