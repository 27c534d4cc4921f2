/**
 * A capture as it goes over the socket: messages of a type and a length (32 bits
 * each, little endian) before their bytes.
 *
 *   1 blocks   frames (32 bits), then whole blocks of a pcapng file
 *   2 lost     how many frames were left out since the last message of this type (32 bits)
 *
 * What comes while a message is on its way goes out with the next one, so that a
 * reader that has much to do gets few large ones. Once CAPTURE_BUFFER_BYTES wait
 * for it, frames are left out and counted.
 */
import type { CaptureSink } from './target.ts';

export const CAPTURE_BUFFER_BYTES = 32 << 20;
const BLOCKS = 1;
export const LOST = 2;
export const MESSAGE_HEADER_BYTES = 8;
/** Of the answer: `DELETE /capture/ID` ends the capture. */
export const CAPTURE_ID_HEADER = 'weft-capture';

export interface CaptureStream {
  readonly body: ReadableStream<Uint8Array>;
  /** Ends the capture: the reader still gets all that waits, then the end. */
  readonly end: () => void;
}

/**
 * `subscribe` is called at once and returns how to stop; it is stopped by `end` or when the reader goes away, and
 * `onStopped` is called then.
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
    // Blocks without frames are what others refer to: they are always sent.
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
      // Called when all that was sent was taken and the reader asks, and not again before something is sent.
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

/** The header of a message whose number is followed by `restBytes`, and the number. */
function message(type: number, value: number, restBytes: number): Uint8Array {
  const bytes = Buffer.alloc(MESSAGE_HEADER_BYTES + 4);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(4 + restBytes, 4);
  bytes.writeUInt32LE(Math.min(value, 0xffff_ffff), 8);
  return bytes;
}
