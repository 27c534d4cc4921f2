/** Long reports: a JSON array that is written as its items come, so the daemon never holds the whole of it. */

/** Enough for one write. */
const CHUNK_CHARACTERS = 1 << 16;

/** The body of a response; `items` are requested as fast as the reader takes them. */
export function arrayStream(items: AsyncIterable<unknown>): ReadableStream<Uint8Array> {
  return ReadableStream.from(chunks(items));
}

async function* chunks(items: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  let text = '[';
  let separator = '';
  for await (const item of items) {
    text += `${separator}${JSON.stringify(item)}`;
    separator = ',';
    if (text.length < CHUNK_CHARACTERS) continue;
    yield Buffer.from(text);
    text = '';
  }
  yield Buffer.from(`${text}]`);
}
