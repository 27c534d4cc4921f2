/**
 * Resources and their changes, as server-sent events to a follower that may be slow or dead.
 *
 *   event: item     data: {"type": "ADDED", "object": …}: what there is, then each change
 *   event: open     all that there is was listed; what follows are changes
 *   event: lost     data: how many changes were left out because they waited for too long. A new list follows, up to the
 *                   next `open`
 *   event: end      the daemon stops
 *
 * The list is made as fast as it is read. Changes that come meanwhile wait, at most MOST_WAITING.
 */
import type { Resource, ResourceEvent } from '../model/resource.ts';
import { eventBytes } from './events.ts';
import type { Following } from './target.ts';

/** More than one file can change at once. */
export const MOST_WAITING = 32_768;
/** How many events are written at once. */
const AT_ONCE = 64;

export type Follow = (onEvent: (event: ResourceEvent) => void, onEnd: () => void) => Following;

/** The body of a response. `follow` is called at once, and again when the reader has lost its place. */
export function resourceStream(follow: Follow): ReadableStream<Uint8Array> {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  let following: Following;
  /** Undefined when everything is listed. */
  let listing: Iterator<Resource> | undefined;
  let waiting: ResourceEvent[] = [];
  let lost = 0;
  let isEnding = false;
  /** The reader has taken everything and waits for more. */
  let isAsking = false;

  const begin = (): void => {
    following = follow(
      (event) => {
        if (lost > 0) lost++;
        else if (waiting.length < MOST_WAITING) waiting.push(event);
        else {
          lost = waiting.length + 1;
          waiting = [];
          listing = undefined;
        }
        if (isAsking) send();
      },
      () => {
        isEnding = true;
        if (isAsking) send();
      },
    );
    listing = following.listing[Symbol.iterator]();
  };

  const send = (): void => {
    isAsking = false;
    const events: Uint8Array[] = [];
    if (lost > 0) {
      events.push(eventBytes('lost', lost));
      following.stop();
      lost = 0;
      begin();
    }
    while (listing && events.length < AT_ONCE) {
      const { done, value } = listing.next();
      if (done) {
        events.push(eventBytes('open', null));
        listing = undefined;
      } else {
        events.push(eventBytes('item', { type: 'ADDED', object: value } satisfies ResourceEvent));
      }
    }
    if (!listing) for (const event of waiting.splice(0, AT_ONCE)) events.push(eventBytes('item', event));
    const isOver = isEnding && !listing && waiting.length === 0;
    if (isOver) events.push(eventBytes('end', null));
    if (events.length > 0) controller.enqueue(Buffer.concat(events));
    else isAsking = true;
    if (isOver) {
      following.stop();
      controller.close();
    }
  };

  begin();
  return new ReadableStream<Uint8Array>(
    {
      start(own) {
        controller = own;
      },
      // Called when everything that was sent was taken and the reader wants more, and not again before
      // something is sent.
      pull: send,
      cancel: () => following.stop(),
    },
    { highWaterMark: 0 },
  );
}
