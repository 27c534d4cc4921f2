/**
 * Settings and rtnetlink messages for network namespaces, as they cross into the addon
 * (native/io/netns.h), where a thread of its own enters one namespace after the other.
 */

export interface NetnsExchange {
  /** A path to the namespace, and the identity of the namespace that it must lead to. */
  readonly path: string;
  readonly dev: bigint;
  readonly ino: bigint;
  /** Written first: paths under /proc/sys/net. */
  readonly settings: readonly { readonly path: string; readonly value: string }[];
  /** Messages with their headers (linux/netlink.h), in this machine's byte order, one after the other. */
  readonly requests: Uint8Array;
}

export interface NetnsReply {
  /** 0, or a negative errno: the namespace could not be entered, and the rest is empty. */
  readonly result: number;
  /**
   * If there were requests: what the kernel calls the namespace. No other one is called that until a reboot, but the inode of
   * one that is gone is given to the next. 0 if the kernel has no such names.
   */
  readonly cookie: bigint;
  /** 0 or a negative errno for each setting. */
  readonly settings: readonly number[];
  /** Everything that the kernel answered, one message after the other; owned by the caller. */
  readonly replies: Uint8Array;
}

/** Runs all of them in order. A failure in one does not stop the next. */
export type ExchangeWithNetns = (exchanges: readonly NetnsExchange[]) => Promise<NetnsReply[]>;
