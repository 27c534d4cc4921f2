/** What the DNS server and the thread that asks the host's name servers tell each other. */
import type { Edns } from './message.ts';

export interface ToUpstreams {
  readonly kind: 'ask';
  readonly id: number;
  /** The question of a message, as its client wrote it. */
  readonly question: Uint8Array;
  /** Those of its client. */
  readonly flags: number;
  readonly edns: Edns | undefined;
  /** Who may be asked, in this order. */
  readonly servers: readonly string[];
}

export type FromUpstreams =
  /** The host's name servers, which have changed. */
  | { readonly kind: 'servers'; readonly addresses: readonly string[] }
  /** Undefined if nobody has answered in time. */
  | { readonly kind: 'answer'; readonly id: number; readonly message: Uint8Array | undefined };
