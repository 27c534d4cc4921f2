/** TAP devices, as datapaths and the addon identify them. */

/** Identifies a TAP. Names and paths are not enough, since they can come to mean another one. */
export interface TapIdentity {
  /** Device and inode of the network namespace that it is in. */
  readonly dev: bigint;
  readonly ino: bigint;
  /** Its index in that namespace. */
  readonly ifindex: number;
}

/** Where an open TAP is, and what it is called there. */
export interface TapPlace extends Omit<TapIdentity, 'ifindex'> {
  readonly ifname: string;
}

/** What was opened. */
export interface TapOpened extends TapIdentity {
  /** Queues of this port; each is one of the descriptors that a program can open for a TAP. */
  readonly queues: number;
  /** False: it existed already, and was re-attached. */
  readonly created: boolean;
}
