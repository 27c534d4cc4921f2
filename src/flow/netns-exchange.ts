/**
 * Settings and rtnetlink messages for network namespaces, as they cross into the
 * addon (native/io/netns.h): a thread of its own enters one after the other.
 */

export interface NetnsExchange {
  /** A path to the namespace, and which one it has to lead to. */
  readonly path: string;
  readonly dev: bigint;
  readonly ino: bigint;
  /** Written first: paths below /proc/sys/net. */
  readonly settings: readonly { readonly path: string; readonly value: string }[];
  /** Messages with their headers (linux/netlink.h), in this machine's byte order, one behind the other. */
  readonly requests: Uint8Array;
}

export interface NetnsReply {
  /** 0, or a negative errno: the namespace was not entered, and the rest is empty. */
  readonly result: number;
  /** One a setting: 0 or a negative errno. */
  readonly settings: readonly number[];
  /** All that the kernel answered, one message behind the other; the caller's own. */
  readonly replies: Uint8Array;
}

/** Runs all of them in order. What fails in one does not stop the next. */
export type ExchangeWithNetns = (exchanges: readonly NetnsExchange[]) => Promise<NetnsReply[]>;
