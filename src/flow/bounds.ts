/** How many undecided frames both datapaths hold. The layout check compares these numbers with the addon's. */

/** Undecided flows that may wait from one port. */
export const PENDING_PER_PORT = 1024;
/**
 * Of these, directions of connections that the datapath has opened by itself: the others like them need no decision once the first
 * one is decided, and what else begins at the port finds room.
 */
export const PENDING_BALANCED_PER_PORT = 256;
/** Frames that may wait for one decision, the first included. */
export const PARKED_PER_FLOW = 8;
/** The same for fragments: a datagram that lacks one of them is lost as a whole. */
export const PARKED_FRAGMENTS = 64;
/** Fragmented datagrams of one port that are tracked at a time. */
export const DATAGRAMS_PER_PORT = 256;
/** Fragments that may wait for the first one of their datagram. */
export const WAITING_PER_DATAGRAM = 64;
/** Bytes of such waiting fragments from one port. */
export const WAITING_BYTES_PER_PORT = 1 << 20;
/**
 * A datagram is forgotten so long after its first fragment arrived; waiting fragments are dropped at the next
 * call into the datapath.
 */
export const FRAGMENT_TIMEOUT_MS = 5000;
/** Distinct masks in the flow cache: more are refused, never searched. */
export const MASK_CAP = 64;
/** Bytes of the first frame that an upcall carries. */
export const HEAD_BYTES = 256;
/** Upcalls handed over in one batch. */
export const UPCALL_BATCH = 64;
