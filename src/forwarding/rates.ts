/** How much the ports of a host may ask of the switch itself: floods, decisions and answers. */
import type { Rate } from '../datapath/datapath.ts';

/**
 * Storm control: how many flooded frames may come in by one port, per second and at once. Switches have some hundreds
 * to some thousands a second. Answers to ARP and ND on behalf of containers are not flooded, so little else needs it.
 * The tunnel brings what all other hosts flood.
 */
export const DEFAULT_STORM: StormRates = { port: 1000, tunnel: 10_000 };

/** Flooded frames per second, which is also the burst; 0 means no limit. */
export interface StormRates {
  /** That come in by one port of a container. */
  readonly port: number;
  readonly tunnel: number;
}

/**
 * How many frames of one port may cause upcalls, per second and at once; half of them for each sender behind it
 * (`datapath.ts`), which is what a container with one MAC address has. A decision takes some tens of microseconds, so a port that sends nothing but new flows leaves most
 * of the time to the others, and ten thousand flows that begin at once lose no frame. The tunnel brings the new flows
 * of all other hosts, and the outside brings the answers to everything that the ports here have opened. So do weft's
 * own sockets.
 */
export const UPCALLS = {
  port: { perSecond: 2000, burst: 20_000 },
  tunnel: { perSecond: 4000, burst: 40_000 },
  outside: { perSecond: 20_000, burst: 80_000 },
} as const satisfies Record<string, Rate>;

/**
 * How much one port may send to weft's own sockets, per second and at once, in packets and KiB (`datapath.ts`), so that a
 * container that asks all it can takes a small part of a processor.
 */
const SOCKETS: Rate = { perSecond: 2000, burst: 500 };

/**
 * How much of that may be unanswered, if it is UDP; TCP has windows, and its acknowledgments are not answered. All containers
 * share the thread of the sockets, the buffer before it and the queue of answers behind it, where what finds no room is
 * lost unseen. However little of a processor the thread and the datapath have, those that ask more than is answered wait
 * for their answers, and fill neither: there is room for those of thirty containers (`SOCKET_QUEUE`). What is never answered
 * is given up with time.
 */
const UNANSWERED: Rate = { perSecond: 250, burst: 256 };

export const TO_SOCKETS = { sockets: SOCKETS, unanswered: UNANSWERED } as const;

/** How many small packets have room in front of weft's own sockets, and as many behind them. */
export const SOCKET_QUEUE = 32 * UNANSWERED.burst;

/**
 * How many refused frames of one port the datapath answers, per second and at once: enough for programs that try one
 * address after another, and few enough that answers to made-up senders are no flood. The tunnel brings the frames of
 * all other hosts.
 */
export const ANSWERS = {
  port: { perSecond: 1000, burst: 1000 },
  tunnel: { perSecond: 10_000, burst: 10_000 },
  outside: { perSecond: 1000, burst: 1000 },
} as const satisfies Record<string, Rate>;
