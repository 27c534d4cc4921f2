/** Meters: how much may pass of what a hook has limited together. native/meters.h has the rules, and counts exactly the same. */
import type { MeterName } from '../../flow/treatment.ts';

const SETS = 512;
const WAYS = 8;
/** Ticks in a second, as in bucket.ts. */
const TICKS = 16_000_000_000n;
const TICKS_PER_MS = Number(TICKS / 1000n);
const LEAST_BYTES = 65_536n;
const LEAST_PACKETS = 10n;

interface Meter {
  name: MeterName;
  /** When each bucket is full again. */
  bytesFullAt: bigint;
  packetsFullAt: bigint;
}

const NOBODY: MeterName = { id: 0, kbits: 0, packets: 0 };

export class Meters {
  readonly #sets = new Map<number, readonly Meter[]>();

  /** False if that is more than may pass; then nothing was taken. */
  take(name: MeterName, bytes: number, packets: number, nowMs: number): boolean {
    const now = BigInt(Math.trunc(nowMs * TICKS_PER_MS));
    const meter = this.#find(name, now);
    if (!meter) return false;
    const bytesPerSecond = BigInt(name.kbits) * 125n;
    const packetsPerSecond = BigInt(name.packets);
    if (!admits(bytesPerSecond, LEAST_BYTES, meter.bytesFullAt, now)) return false;
    if (!admits(packetsPerSecond, LEAST_PACKETS, meter.packetsFullAt, now)) return false;
    meter.bytesFullAt = fullAfter(bytesPerSecond, meter.bytesFullAt, BigInt(bytes), now);
    meter.packetsFullAt = fullAfter(packetsPerSecond, meter.packetsFullAt, BigInt(packets), now);
    return true;
  }

  #find(name: MeterName, now: bigint): Meter | undefined {
    const number = name.id % SETS;
    let set = this.#sets.get(number);
    if (!set) {
      set = Array.from({ length: WAYS }, () => ({ name: NOBODY, bytesFullAt: 0n, packetsFullAt: 0n }));
      this.#sets.set(number, set);
    }
    const known = set.find(({ name: { id, kbits, packets } }) => {
      return id === name.id && kbits === name.kbits && packets === name.packets;
    });
    if (known) return known;
    const idle = set.reduce((first, one) => (fullAt(one) < fullAt(first) ? one : first));
    if (fullAt(idle) > now) return undefined;
    return Object.assign(idle, { name, bytesFullAt: 0n, packetsFullAt: 0n });
  }
}

function fullAt({ bytesFullAt, packetsFullAt }: Meter): bigint {
  return bytesFullAt > packetsFullAt ? bytesFullAt : packetsFullAt;
}

function admits(perSecond: bigint, least: bigint, full: bigint, now: bigint): boolean {
  if (perSecond === 0n) return true;
  const [tenth, leastDepth] = [TICKS / 10n, (least * TICKS) / perSecond];
  return full - now < (leastDepth > tenth ? leastDepth : tenth);
}

function fullAfter(perSecond: bigint, full: bigint, units: bigint, now: bigint): bigint {
  return perSecond === 0n ? full : (full > now ? full : now) + (units * TICKS) / perSecond;
}
