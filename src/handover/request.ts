/**
 * What a new daemon asks of the running one, over its API: to be given all that it has. The answer comes before
 * anything is changed. Both say what they are, so that neither has to guess: only daemons of the same place,
 * which speak the same format and store connections in the same way, follow one another without loss.
 */
import { WeftError } from '../error.ts';

/** Of the request and of the messages that follow. */
export const TAKEOVER_FORMAT = 1;

/**
 * How long the new daemon may take to forward when it has everything. Then it gives up, and the running one goes on. It takes a
 * fifth of a second; with twenty programs on two processors it took six. One that fails ends, and is not waited for. All of it is
 * over before peers lose patience (cluster/membership/peers.ts) and the host's lease ends.
 */
export const FORWARD_MS = 8000;

export interface TakeoverRequest {
  readonly format: number;
  readonly version: string;
  /** Where the new daemon listens for the connection over which all is passed. */
  readonly at: string;
  readonly place: TakeoverPlace;
}

/** What must be the same of both. */
export interface TakeoverPlace {
  readonly host: string;
  /** The state directory, without symbolic links. */
  readonly state: string;
  /** How connections are stored: `connectionFileHeader`, hexadecimal. */
  readonly connections: string;
}

export interface TakeoverAnswer {
  readonly pid: number;
  readonly version: string;
}

/** What is said over the connection, beside the descriptors. */
export type TakeoverMessage =
  /** By the new daemon: it is ready to begin, and only lacks what the other one has. */
  | { readonly say: 'go' }
  /** By the running daemon: with descriptors. */
  | { readonly say: 'descriptors'; readonly name: string }
  /** By the running daemon, which has let go of everything. */
  | { readonly say: 'all' }
  /** By the running daemon: nothing is handed over. Without that word, it was killed. */
  | { readonly say: 'withdrawn'; readonly why: string }
  /** By the new daemon: it forwards. */
  | { readonly say: 'forwarding' }
  /** By the old daemon, which was told to stop in the meantime. */
  | { readonly say: 'stop'; readonly purge: boolean };

/** @throws WeftError that says why this one cannot be followed by that one */
export function checkTakeover(request: TakeoverRequest, own: TakeoverPlace & { readonly version: string }): void {
  const { format, version, place } = request;
  const refuse = (why: string): never => {
    throw new WeftError('conflict', `nothing is taken over from the running daemon (weft ${own.version}): ${why}`);
  };
  const restart = 'restart it: stop the running daemon and start this one without --takeover';
  if (format !== TAKEOVER_FORMAT) {
    refuse(`weft ${version} asks for a takeover of format ${format}, it has format ${TAKEOVER_FORMAT}; ${restart}`);
  }
  if (place.state !== own.state)
    refuse(`its state directory is ${own.state}, not ${place.state}: give --state ${own.state}`);
  if (place.host !== own.host) refuse(`its host is named "${own.host}", not "${place.host}": give --host ${own.host}`);
  if (place.connections !== own.connections) {
    refuse(`weft ${version} stores connections in another way, so they would end; ${restart}`);
  }
}

export function textOf(message: TakeoverMessage): string {
  return JSON.stringify(message);
}

/** @throws WeftError if it is none */
export function messageOf(bytes: Uint8Array): TakeoverMessage {
  try {
    return JSON.parse(Buffer.from(bytes).toString()) as TakeoverMessage;
  } catch (cause) {
    throw new WeftError('internal', 'a message of a takeover cannot be read', { cause });
  }
}
