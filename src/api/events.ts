/**
 * Server-sent events to a follower that may be slow or dead.
 *
 * Events wait in a buffer of FOLLOWER_BUFFER_BYTES. While it is full, further events are left
 * out and counted, and as soon as the follower reads again, an event `lost` says how many. So
 * a follower never holds up the switch, and never costs more than its buffer, the socket's,
 * and one event.
 *
 *   event: open     the subscription is active
 *   event: item     data: JSON
 *   event: lost     data: how many items were left out here
 */

export const FOLLOWER_BUFFER_BYTES = 1 << 20;

/**
 * The body of a response that follows something. `subscribe` is called at once and returns how
 * to stop; it is stopped when the follower goes away.
 */
export function eventStream<T>(subscribe: (send: (item: T) => void) => () => void): ReadableStream<Uint8Array> {
  let lost = 0;
  let stop = (): void => {};
  const tellLost = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
    if (lost === 0) return;
    controller.enqueue(eventBytes('lost', lost));
    lost = 0;
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        controller.enqueue(eventBytes('open', null));
        stop = subscribe((item) => {
          if ((controller.desiredSize ?? 0) <= 0) {
            lost++;
            return;
          }
          tellLost(controller);
          controller.enqueue(eventBytes('item', item));
        });
      },
      // Called when there is room again, so a follower also learns of a loss that nothing came
      // after.
      pull: tellLost,
      cancel: () => stop(),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: FOLLOWER_BUFFER_BYTES }),
  );
}

/** One event as it is sent. */
export function eventBytes(name: string, data: unknown): Uint8Array {
  return Buffer.from(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}
