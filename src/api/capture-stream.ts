/**
 * A capture on its way over the socket: messages, each with a type and a length (32 bits each,
 * little endian) in front of its bytes.
 *
 *   1 blocks   number of frames (32 bits), then whole blocks of a pcapng file
 *   2 lost     how many frames were left out since the last message of this type (32 bits)
 *
 * Whatever comes while a message is being sent goes out with the next one, so a busy reader
 * gets few large messages. Once CAPTURE_BUFFER_BYTES wait for it, frames are left out and
 * counted.
 */
import type { CaptureSink } from './target.ts';

export const CAPTURE_BUFFER_BYTES = 32 << 20;
const BLOCKS = 1;
export const LOST = 2;
export const MESSAGE_HEADER_BYTES = 8;
/** A header of the response: `DELETE /capture/ID` ends the capture. */
export const CAPTURE_ID_HEADER = 'weft-capture';

export interface CaptureStream {
  readonly body: ReadableStream<Uint8Array>;
  /** Ends the capture: the reader still gets everything that waits, then the end. */
  readonly end: () => void;
}

/**
 * `subscribe` is called at once and returns how to stop. It is stopped by `end`, or when the reader goes away; then
 * `onStopped` is called.
 */
export function captureStream(
  subscribe: (sink: CaptureSink) => () => void,
  onStopped: () => void = () => {},
): CaptureStream {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let waitingFrames = 0;
  let lost = 0;
  /** The reader has taken everything and waits for more. */
  let isAsking = false;
  let isGone = false;

  const send = (): void => {
    isAsking = lost === 0 && waitingBytes === 0;
    if (lost > 0) controller.enqueue(message(LOST, lost, 0));
    if (waitingBytes > 0) {
      controller.enqueue(message(BLOCKS, waitingFrames, waitingBytes));
      for (const blocks of waiting) controller.enqueue(blocks);
    }
    waiting = [];
    waitingBytes = waitingFrames = lost = 0;
  };
  const take: CaptureSink = (blocks, frames, leftOut) => {
    if (isGone) return;
    lost += leftOut;
    // Later blocks refer to those without frames, so these are always sent.
    if (frames > 0 && waitingBytes >= CAPTURE_BUFFER_BYTES) lost += frames;
    else if (blocks.length > 0) {
      waiting.push(blocks);
      waitingBytes += blocks.length;
      waitingFrames += frames;
    }
    if (isAsking) send();
  };
  const stop = subscribe(take);
  const body = new ReadableStream<Uint8Array>(
    {
      start(own) {
        controller = own;
      },
      // Called when everything that was sent was taken and the reader wants more, and not again before
      // something is sent.
      pull: send,
      cancel() {
        isGone = true;
        stop();
        onStopped();
      },
    },
    { highWaterMark: 0 },
  );
  return {
    body,
    end() {
      if (isGone) return;
      stop();
      send();
      isGone = true;
      controller.close();
      onStopped();
    },
  };
}

/** The header of a message whose number is followed by `restBytes` bytes, and the number. */
function message(type: number, value: number, restBytes: number): Uint8Array {
  const bytes = Buffer.alloc(MESSAGE_HEADER_BYTES + 4);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(4 + restBytes, 4);
  bytes.writeUInt32LE(Math.min(value, 0xffff_ffff), 8);
  return bytes;
}
