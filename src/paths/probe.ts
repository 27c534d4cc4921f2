/**
 * Probes: is another host there, and does a packet of some size get to it and back? Each probe
 * is one ICMP echo, sent by raw-socket if that optional package is installed.
 */
import { createRequire } from 'node:module';

export interface ProbeResult {
  readonly isReachable: boolean;
  readonly roundTripMs?: number;
  /** Why there was no answer. */
  readonly why?: string;
}

export interface ProbeOptions {
  /** Size of the whole IP packet, which must not be fragmented; the smallest if it is not given. */
  readonly bytes?: number;
  /** Ends the wait. */
  readonly signal?: AbortSignal;
}

/** Sends one echo to `address` and waits for its answer; resolves in any case. */
export type Probe = (address: string, timeoutMs: number, options?: ProbeOptions) => Promise<ProbeResult>;

/** The part of raw-socket that is used. */
interface RawSocket {
  send(
    buffer: Buffer,
    offset: number,
    length: number,
    address: string,
    after: (error: Error | null, bytes: number) => void,
  ): void;
  on(event: 'message', listener: (buffer: Buffer, source: string) => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
  setOption(level: number, option: number, value: number): void;
  close(): void;
}
interface RawSocketModule {
  createSocket(options: { protocol: number; addressFamily: number }): RawSocket;
  writeChecksum(buffer: Buffer, offset: number, checksum: number): Buffer;
  createChecksum(...buffers: Buffer[]): number;
  readonly AddressFamily: { readonly IPv4: number; readonly IPv6: number };
  readonly Protocol: { readonly ICMP: number; readonly ICMPv6: number };
}

const ECHO_BYTES = 16;
/**
 * `discover` is the socket option that makes it send packets whole, whatever the kernel knows
 * about the path: IP_MTU_DISCOVER or IPV6_MTU_DISCOVER, with its level.
 */
const ipv4 = { request: 8, reply: 0, headerBytes: 20, discover: [0, 10] } as const;
const ipv6 = { request: 128, reply: 129, headerBytes: 40, discover: [41, 23] } as const;
/** IP_PMTUDISC_PROBE, and IPV6_PMTUDISC_PROBE. */
const PMTUDISC_PROBE = 3;

/**
 * What opens it, at its first call: loading raw-socket takes some milliseconds, for which a start would wait. Returns
 * undefined if raw-socket is not installed.
 */
export function probeOpener(now: () => number, setTimer: typeof setTimeout): () => Probe | undefined {
  let opened: { readonly probe: Probe | undefined } | undefined;
  return () => (opened ??= { probe: openProbe(now, setTimer) }).probe;
}

function openProbe(now: () => number, setTimer: typeof setTimeout): Probe | undefined {
  let raw: RawSocketModule;
  try {
    raw = createRequire(import.meta.url)('raw-socket') as RawSocketModule;
  } catch {
    return undefined;
  }
  let sequence = 0;
  return (address, timeoutMs, { bytes = 0, signal } = {}) =>
    new Promise((resolve) => {
      const isV6 = address.includes(':');
      const type = isV6 ? ipv6 : ipv4;
      const identifier = process.pid & 0xffff;
      const number = (sequence = (sequence + 1) & 0xffff);
      const echo = Buffer.alloc(Math.max(ECHO_BYTES, bytes - type.headerBytes));
      echo[0] = type.request;
      echo.writeUInt16BE(identifier, 4);
      echo.writeUInt16BE(number, 6);
      // The kernel computes the checksum of ICMPv6 on raw sockets (RFC 3542 §3.1), but not that of
      // ICMPv4.
      if (!isV6) raw.writeChecksum(echo, 2, raw.createChecksum(echo));

      let socket: RawSocket | undefined;
      try {
        socket = raw.createSocket({
          protocol: isV6 ? raw.Protocol.ICMPv6 : raw.Protocol.ICMP,
          addressFamily: isV6 ? raw.AddressFamily.IPv6 : raw.AddressFamily.IPv4,
        });
        const [level, option] = type.discover;
        socket.setOption(level, option, PMTUDISC_PROBE);
      } catch (error) {
        socket?.close();
        resolve({ isReachable: false, why: `raw sockets are not permitted (${String(error)})` });
        return;
      }
      const sentAt = now();
      const finish = (result: ProbeResult): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', stop);
        socket.close();
        resolve(result);
      };
      const stop = (): void => finish({ isReachable: false, why: 'stopped' });
      signal?.addEventListener('abort', stop);
      const timer = setTimer(() => finish({ isReachable: false, why: `no answer in ${timeoutMs} ms` }), timeoutMs);
      socket.on('error', (error) => finish({ isReachable: false, why: error.message }));
      socket.on('message', (packet, source) => {
        // IPv4 raw sockets deliver the IP header, too.
        const message = isV6 ? packet : packet.subarray((packet[0]! & 15) * 4);
        if (source !== address || message.length < 8 || message[0] !== type.reply) return;
        if (message.readUInt16BE(4) !== identifier || message.readUInt16BE(6) !== number) return;
        finish({ isReachable: true, roundTripMs: now() - sentAt });
      });
      socket.send(echo, 0, echo.length, address, (error) => {
        if (error) finish({ isReachable: false, why: error.message });
      });
    });
}
