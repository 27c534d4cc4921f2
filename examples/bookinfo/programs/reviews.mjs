/**
 * What readers have written about a book. v1 shows no stars, v2 shows black ones, and v3 red ones; these two ask `ratings`.
 *
 *   RATINGS   where `ratings` is; ratings:9080 if not given
 */
import { ask, serve, version } from './serve.mjs';

const ratings = process.env.RATINGS ?? 'ratings:9080';
const color = { v2: 'black', v3: 'red' }[version];

const reviews = [
  [
    { reader: 'Noor', text: 'I read it in one burst. Not a page was lost.' },
    { reader: 'Tomas', text: 'The middle part repeats itself, as if nobody had acknowledged it.' },
  ],
  [
    { reader: 'Noor', text: 'Short chapters, and each one arrives.' },
    { reader: 'Tomas', text: 'It takes too long until the first one is decided.' },
  ],
];

serve('reviews', async (path) => {
  const [, id] = /^\/reviews\/(\d+)$/.exec(path) ?? [];
  const found = id === undefined ? undefined : reviews[Number(id)];
  if (!found || color === undefined) return found && { version, reviews: found };
  try {
    const { stars, servedBy } = await ask(ratings, `/ratings/${id}`);
    return { version, color, ratedBy: servedBy, reviews: found.map((one) => ({ ...one, stars: stars[one.reader] })) };
  } catch (error) {
    return { version, color, ratingsFailed: error.message, reviews: found };
  }
});
