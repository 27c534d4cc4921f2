/**
 * The page of a book: asks `details` and `reviews`, and shows what it gets. What does not answer is left out, with the reason.
 *
 *   /productpage        for people
 *   /products/0         the same as JSON
 *   DETAILS, REVIEWS    where these are; details:9080 and reviews:9080 if not given
 */
import { ask, serve } from './serve.mjs';

const details = process.env.DETAILS ?? 'details:9080';
const reviews = process.env.REVIEWS ?? 'reviews:9080';

serve('productpage', async (path) => {
  if (path === '/' || path === '/productpage') return page(await product(0));
  const [, id] = /^\/products\/(\d+)$/.exec(path) ?? [];
  return id === undefined ? undefined : product(Number(id));
});

async function product(id) {
  const [about, said] = await Promise.all([
    ask(details, `/details/${id}`).catch((error) => ({ failed: error.message })),
    ask(reviews, `/reviews/${id}`).catch((error) => ({ failed: error.message })),
  ]);
  return { details: about, reviews: said };
}

function page({ details: about, reviews: said }) {
  const facts = about.failed
    ? `<p>The details are not available: ${escaped(about.failed)}</p>`
    : `<h1>${escaped(about.title)}</h1><p>${escaped(about.author)}, ${about.year}, ${about.pages} pages</p>`;
  const voices = said.failed
    ? `<p>The reviews are not available: ${escaped(said.failed)}</p>`
    : said.reviews.map((one) => voice(one, said)).join('');
  const from = said.failed ? '' : `<p><small>Reviews by ${escaped(said.servedBy)}</small></p>`;
  return `<!doctype html><title>Bookinfo</title>${facts}${voices}${from}\n`;
}

function voice({ reader, text, stars }, { color, ratingsFailed }) {
  const shown =
    stars === undefined ? '' : ` <span style="color: ${color}">${'★'.repeat(stars)}${'☆'.repeat(5 - stars)}</span>`;
  const missing = ratingsFailed === undefined ? '' : ' (the ratings are not available)';
  return `<blockquote><p>${escaped(text)}</p>${escaped(reader)}${shown}${missing}</blockquote>`;
}

function escaped(text) {
  return String(text).replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
