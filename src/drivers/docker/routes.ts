/** The HTTP side of the driver: POST /METHOD with a JSON body (Docker's plugin protocol, version 1). */
import type { ServerResponse } from 'node:http';
import { Hono } from 'hono';
import type { Docker } from './docker.ts';

/** More than Docker ever sends for one endpoint. */
const BODY_LIMIT_BYTES = 1 << 20;
/** Tells the server that nothing is left to send. */
const ALREADY_SENT = { headers: { 'x-hono-already-sent': 'true' } };
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';

/** What the server adds to a request. */
interface Connection {
  readonly Bindings: { readonly outgoing: ServerResponse };
}

/**
 * Docker tries again for some seconds if its request gets no answer at all, so a daemon that stops hangs up: the next one answers.
 * @param isStopping true when requests are for another daemon
 */
export function dockerRoutes(docker: Pick<Docker, 'answer'>, isStopping: () => boolean): Hono<Connection> {
  const app = new Hono<Connection>();
  const hangUp = ({ outgoing }: Connection['Bindings']): Response => {
    outgoing.destroy();
    return new Response(null, ALREADY_SENT);
  };
  const json = (body: object): Response =>
    new Response(JSON.stringify(body), { headers: { 'content-type': CONTENT_TYPE } });
  const failure = (why: string): Response => json({ Err: why, Error: why });
  app.post('/:method', async (c) => {
    if (isStopping()) return hangUp(c.env);
    const text = await bodyOf(c.req.raw);
    if (text === undefined)
      return failure(`the request is larger than ${BODY_LIMIT_BYTES} bytes, or did not arrive as a whole`);
    let body: unknown;
    try {
      body = text === '' ? {} : JSON.parse(text);
    } catch (error) {
      return failure(`the request body is not JSON: ${(error as Error).message}`);
    }
    // A method that weft does not know is how Docker finds out which are optional.
    const answer = docker.answer(c.req.param('method'), body);
    if (!answer) return c.notFound();
    const said = await answer;
    return said === 'again' ? hangUp(c.env) : json(said);
  });
  return app;
}

/** Undefined if it is too long, or the client has gone. */
async function bodyOf({ body }: Request): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let lengthBytes = 0;
  try {
    for await (const chunk of body ?? []) {
      lengthBytes += chunk.length;
      if (lengthBytes > BODY_LIMIT_BYTES) return undefined;
      chunks.push(chunk);
    }
  } catch {
    return undefined;
  }
  return Buffer.concat(chunks).toString();
}
