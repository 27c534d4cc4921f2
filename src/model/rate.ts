/**
 * Rates and sizes as text, in the units of tc (iproute2). `bit` and its multiples by 1000 are
 * bits a second, `bps` and its multiples by 1000 are bytes a second. Sizes are in bytes, and
 * their multiples by 1024. Units are in lower case and always required.
 */
import * as z from 'zod';
import { quote } from './value.ts';

const RATE_UNITS: Readonly<Record<string, number>> = {
  bit: 1 / 8,
  kbit: 125,
  mbit: 125_000,
  gbit: 125_000_000,
  bps: 1,
  kbps: 1000,
  mbps: 1_000_000,
  gbps: 1_000_000_000,
};
const SIZE_UNITS: Readonly<Record<string, number>> = { b: 1, kb: 1024, mb: 1_048_576 };

/** In bytes a second. */
const LEAST_RATE = 1000;
const GREATEST_RATE = 12_500_000_000;
export const LEAST_BURST_BYTES = 64 * 1024;
export const GREATEST_BURST_BYTES = 256 * 1_048_576;

/** How much time at the rate the default burst and the queue hold. */
const BURST_SECONDS = 0.25;
const QUEUE_SECONDS = 0.05;
const DEFAULT_LEAST_BURST_BYTES = 128 * 1024;
/** Two superframes: one waits while the other is being sent. */
const LEAST_QUEUE_BYTES = 128 * 1024;
/** How much memory each datapath thread may use for one direction of a port. */
const GREATEST_QUEUE_BYTES = 2 * 1_048_576;

/** Parses "12.5" and "mbps"; undefined for an unknown unit. Exact: decimals are digits of a whole number. */
function parse(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const [, digits, unit = ''] = /^(0|[1-9]\d{0,11}(?:\.\d{1,3})?|0\.\d{1,3})([a-z]+)$/.exec(text) ?? [];
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined;
  if (digits === undefined || factor === undefined) return undefined;
  return (Math.round(Number(digits) * 1000) * factor) / 1000;
}

/** Bytes a second of a validated rate. */
export function rateBytes(text: string): number {
  return Math.round(parse(text, RATE_UNITS)!);
}

/** A rate in bytes a second as text: bits in the largest unit that needs no decimals. */
function rateText(bytesPerSecond: number): string {
  const [unit, factor] = (['gbit', 'mbit', 'kbit', 'bit'] as const)
    .map((name) => [name, RATE_UNITS[name]!] as const)
    .find(([, size]) => bytesPerSecond % size === 0)!;
  return `${bytesPerSecond / factor}${unit}`;
}

/** Bytes of a validated burst. */
export function burstBytes(text: string): number {
  return Math.round(parse(text, SIZE_UNITS)!);
}

/** The default burst in bytes: 250 ms of the rate, 128 KB to 256 MB. */
export function defaultBurstBytes(bytesPerSecond: number): number {
  const bytes = Math.round(bytesPerSecond * BURST_SECONDS);
  return Math.min(Math.max(bytes, DEFAULT_LEAST_BURST_BYTES), GREATEST_BURST_BYTES);
}

/** Bytes that may wait for the rate: 50 ms of it, 128 KB to 2 MB. native/rate_queue.h says why. */
export function queueBytes(bytesPerSecond: number): number {
  const bytes = Math.round(bytesPerSecond * QUEUE_SECONDS);
  return Math.min(Math.max(bytes, LEAST_QUEUE_BYTES), GREATEST_QUEUE_BYTES);
}

/** Canonical text: bits a second, without decimals. */
export const rate = z.string().transform((text, context) => {
  const refuse = (why: string): never => {
    context.addIssue({ code: 'custom', message: `${quote(text)} ${why}` });
    return z.NEVER;
  };
  const bytes = parse(text, RATE_UNITS);
  if (bytes === undefined) {
    return refuse(
      'is not a rate like 100mbit: a number and bit, kbit, mbit or gbit (bits a second), or bps, kbps, mbps or gbps (bytes a second)',
    );
  }
  if (bytes < LEAST_RATE || bytes > GREATEST_RATE) return refuse('is out of range: a rate is 8kbit to 100gbit');
  return rateText(Math.round(bytes));
});

/** Canonical text: whole bytes, in the largest unit. */
export const burst = z.string().transform((text, context) => {
  const refuse = (why: string): never => {
    context.addIssue({ code: 'custom', message: `${quote(text)} ${why}` });
    return z.NEVER;
  };
  const bytes = parse(text, SIZE_UNITS);
  if (bytes === undefined) return refuse('is not a size like 256kb: a number and b, kb (1024 bytes) or mb');
  if (bytes < LEAST_BURST_BYTES || bytes > GREATEST_BURST_BYTES) {
    return refuse('is out of range: a burst is 64kb to 256mb, and a superframe has up to 64kb');
  }
  const whole = Math.round(bytes);
  const unit = (['mb', 'kb', 'b'] as const).find((name) => whole % SIZE_UNITS[name]! === 0)!;
  return `${whole / SIZE_UNITS[unit]!}${unit}`;
});

/** In the notation of `weft attach`: `100mbit`, `ingress=50mbit,egress=1gbit`. */
export function rateLimitText(limit: {
  readonly ingress?: string | undefined;
  readonly egress?: string | undefined;
  readonly burst?: string | undefined;
}): string {
  const { ingress, egress, burst: size } = limit;
  if (ingress !== undefined && ingress === egress && size === undefined) return ingress;
  return Object.entries({ ingress, egress, burst: size })
    .flatMap(([name, text]) => (text === undefined ? [] : [`${name}=${text}`]))
    .join(',');
}
