/** What one turn of the event loop does at most when open connections are judged: each takes a few milliseconds. */

/** How many records are looked at, and how many of their classes are judged. */
export const TURN_SCANNED = 8192;
export const TURN_JUDGED = 1024;
/** How many judgements are remembered. If there are more classes, few connections are alike. */
export const MOST_JUDGED = 16_384;
/** How many classes of connections are told. */
export const MOST_TOLD = 1024;
