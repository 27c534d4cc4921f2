/** Whether a holder (`holder.ts`) of another state directory keeps the port of the tunnel open. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

const HOLDER = 'weft-holder';
/** Columns of /proc/net/udp. */
const [LOCAL, INODE] = [1, 9];

/** The state directory of a holder that has a UDP socket with this port, in weft's own network namespace; undefined if none has. */
export function holderOfPort(l4Port: number): string | undefined {
  const sockets = new Set(['udp', 'udp6'].flatMap((table) => socketsAt(`/proc/net/${table}`, l4Port)));
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const [program = '', directory] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (basename(program) !== HOLDER) continue;
      const isIts = readdirSync(`/proc/${pid}/fd`).some((fd) => sockets.has(readlinkSync(`/proc/${pid}/fd/${fd}`)));
      if (isIts) return directory;
    } catch {
      // It has ended.
    }
  }
  return undefined;
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
