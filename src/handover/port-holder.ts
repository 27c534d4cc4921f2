/** Whether a holder (`holder.ts`) of another state directory keeps the port of the tunnel open. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

const HOLDER = 'weft-holder';
/** Columns of /proc/net/udp. */
const [LOCAL, INODE] = [1, 9];

/** For whom a port is kept open. */
export interface PortHolder {
  /** The state directory. */
  readonly state: string;
  /** Its daemon has the port itself. Otherwise, it was killed, and the port is kept for the one that follows. */
  readonly isRunning: boolean;
}

/** The holder that has a UDP socket with this port, in weft's own network namespace; undefined if none has. Reads much of /proc. */
export function holderOfPort(l4Port: number): PortHolder | undefined {
  const sockets = new Set(['udp', 'udp6'].flatMap((table) => socketsAt(`/proc/net/${table}`, l4Port)));
  if (sockets.size === 0) return undefined;
  let state: string | undefined;
  const others: number[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const [program = '', directory] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (basename(program) !== HOLDER) others.push(Number(pid));
      else if (hasOneOf(pid, sockets)) state = directory;
    } catch {
      // It has ended.
    }
  }
  return state === undefined ? undefined : { state, isRunning: others.some((pid) => hasOneOf(pid, sockets)) };
}

function hasOneOf(pid: number | string, sockets: ReadonlySet<string>): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => sockets.has(linkOf(`/proc/${pid}/fd/${fd}`)));
  } catch {
    return false; // It has ended.
  }
}

/** Empty for one that has been closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function socketsAt(table: string, l4Port: number): string[] {
  const end = `:${l4Port.toString(16).toUpperCase().padStart(4, '0')}`;
  try {
    const lines = readFileSync(table, 'utf8').trim().split('\n').slice(1);
    const columns = lines.map((line) => line.trim().split(/\s+/));
    return columns.flatMap((each) => (each[LOCAL]?.endsWith(end) ? `socket:[${each[INODE]}]` : []));
  } catch {
    return [];
  }
}
