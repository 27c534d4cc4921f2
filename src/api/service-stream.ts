/**
 * Services and what changes of them, as server-sent events to a reader that may be slow or dead.
 *
 *   event: item     data: {"type": "ADDED", "object": …}: what there is, then each change
 *   event: open     all that there is was listed; what follows are changes
 *   event: end      the daemon stops
 *
 * The next events are asked for when those before were taken, so nothing waits for a reader.
 */
import { eventBytes } from './events.ts';
import type { ServiceNews } from '../model/service-report.ts';

/** The body of a response. `follow` is called at once; its signal is aborted when the reader goes away. */
export function serviceStream(follow: (signal: AbortSignal) => AsyncIterable<ServiceNews>): ReadableStream<Uint8Array> {
  const leaving = new AbortController();
  const news = follow(leaving.signal)[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await news.next();
        if (leaving.signal.aborted) return;
        if (done) {
          controller.enqueue(eventBytes('end', null));
          return controller.close();
        }
        const events = value.events.map((event) => eventBytes('item', event));
        if (value.isListed) events.push(eventBytes('open', null));
        controller.enqueue(Buffer.concat(events));
      },
      cancel: () => leaving.abort(),
    },
    { highWaterMark: 0 },
  );
}
