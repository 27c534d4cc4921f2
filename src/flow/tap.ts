/** TAP devices, as datapaths and the addon name them. */

/** Which TAP it is: names and paths can come to mean another. */
export interface TapIdentity {
  /** Of the network namespace that it is in. */
  readonly dev: bigint;
  readonly ino: bigint;
  /** In that namespace. */
  readonly ifindex: number;
}

/** What was opened. */
export interface TapOpened extends TapIdentity {
  /** Of this port; each is a descriptor that a program can have of a TAP. */
  readonly queues: number;
  /** False: it was there already, and was re-attached. */
  readonly created: boolean;
}
