/** How much both datapaths hold of what is not decided yet. The layout check compares them with the addon's. */

/** Undecided flows that may wait from one port. */
export const PENDING_PER_PORT = 1024;
/** Frames that may wait for one decision, the first included. */
export const PARKED_PER_FLOW = 8;
/** The same of fragments: what lacks one of them is lost as a whole. */
export const PARKED_FRAGMENTS = 64;
/** Fragmented datagrams of one port that are known at a time. */
export const DATAGRAMS_PER_PORT = 256;
/** Fragments that may wait for the first one of their datagram. */
export const WAITING_PER_DATAGRAM = 64;
/** Bytes of such fragments from one port. */
export const WAITING_BYTES_PER_PORT = 1 << 20;
/** After its first arrival a datagram is forgotten: what waits is dropped when the datapath is next called. */
export const FRAGMENT_TIMEOUT_MS = 5000;
/** Distinct masks in the flow cache: more are refused, never searched. */
export const MASK_LIMIT = 64;
/** Bytes of the first frame that an upcall carries. */
export const HEAD_BYTES = 256;
/** Upcalls handed over at once. */
export const UPCALL_BATCH = 64;
