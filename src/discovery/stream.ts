/**
 * Questions over TCP (RFC 7766). Each has its length before it, a connection may carry any number of them, and a read may
 * return part of one or several. Answers go back as soon as they are known, in any order.
 *
 * A connection costs little, whatever its client does: a question that cannot be one is not waited for, there are few that
 * are not answered yet, and nothing more is read before what was written is on its way. Each whole question gives a
 * connection some more seconds; single bytes do not. Those of a client that asks too fast have to wait (`question-rates.ts`).
 */
import type { Socket } from 'node:net';
import { HEADER_BYTES, MOST_QUESTION_BYTES } from './message.ts';

/** How long a connection lives after its last whole question, or after it was opened. */
export const IDLE_MS = 10_000;
/** How many questions may wait for their answers. */
const MOST_WAITING = 32;
/** Of the length before each message. */
const LENGTH_BYTES = 2;

export interface StreamOptions {
  readonly after: (delayMs: number, work: () => void) => () => void;
  /** Answers a question; undefined: there is no answer, and the connection ends. */
  readonly answer: (message: Uint8Array) => Uint8Array | Promise<Uint8Array | undefined> | undefined;
  /** Returns 0 if a question may be answered now, otherwise how many milliseconds it has to wait. */
  readonly takeTurn: () => number;
  /** An answer has failed, which is a defect in weft: its connection ends, and no other one. */
  readonly onFailed: (error: unknown) => void;
}

export function answerStream(socket: Socket, { after, answer, onFailed, takeTurn }: StreamOptions): void {
  let rest: Buffer = Buffer.alloc(0);
  let waiting = 0;
  let hasEnded = false;
  /** Ends the wait for the client's next turn. */
  let cancelTurn: (() => void) | undefined;
  const expire = (): (() => void) => after(IDLE_MS, () => socket.destroy());
  let cancel = expire();

  const failed = (error: unknown): void => {
    onFailed(error);
    socket.destroy();
  };
  const attempt: typeof answer = (message) => {
    try {
      return answer(message);
    } catch (error) {
      onFailed(error);
      return undefined;
    }
  };
  const write = (message: Uint8Array | undefined): void => {
    waiting--;
    if (socket.destroyed) return;
    if (!message) return void socket.destroy();
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt16BE(message.length);
    socket.write(Buffer.concat([length, message]));
    read();
  };
  const readLater = (waitMs: number): void => {
    cancelTurn = after(waitMs, () => {
      cancelTurn = undefined;
      read();
    });
  };
  /** Takes whole questions out of what has come, as long as answers can be written. */
  const read = (): void => {
    while (!cancelTurn && waiting < MOST_WAITING && !socket.writableNeedDrain && rest.length >= LENGTH_BYTES) {
      const lengthBytes = rest.readUInt16BE();
      if (lengthBytes < HEADER_BYTES || lengthBytes > MOST_QUESTION_BYTES) return void socket.destroy();
      if (rest.length < LENGTH_BYTES + lengthBytes) break;
      const waitMs = takeTurn();
      if (waitMs > 0) {
        readLater(waitMs);
        break;
      }
      const message = rest.subarray(LENGTH_BYTES, LENGTH_BYTES + lengthBytes);
      rest = rest.subarray(LENGTH_BYTES + lengthBytes);
      cancel();
      cancel = expire();
      waiting++;
      const answered = attempt(message);
      if (!(answered instanceof Promise)) return write(answered); // which goes on reading
      answered.then(write, failed);
    }
    const isFull = cancelTurn !== undefined || waiting >= MOST_WAITING || socket.writableNeedDrain;
    if (isFull) socket.pause();
    else if (socket.isPaused()) socket.resume();
    if (hasEnded && waiting === 0 && !isFull) socket.end();
  };
  socket.on('data', (bytes: Buffer) => {
    rest = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    read();
  });
  socket.on('drain', read);
  socket.on('end', () => {
    hasEnded = true;
    read();
  });
  socket.once('close', () => {
    cancel();
    cancelTurn?.();
  });
}
