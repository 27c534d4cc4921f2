/** The HTTP side of the driver: POST /METHOD with a JSON body (Docker's plugin protocol, version 1). */
import type { ServerResponse } from 'node:http';
import { Hono } from 'hono';
import { WeftError } from '../../error.ts';
import { readBody } from '../../http/body.ts';
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
    let body: unknown;
    try {
      const text = await readBody(c.req.raw, BODY_LIMIT_BYTES);
      body = text === '' ? {} : JSON.parse(text);
    } catch (error) {
      const { message } = error as Error;
      return failure(error instanceof WeftError ? message : `the request body is not JSON: ${message}`);
    }
    // A method that weft does not know is how Docker finds out which are optional.
    const answer = docker.answer(c.req.param('method'), body);
    if (!answer) return c.notFound();
    const said = await answer;
    return said === 'again' ? hangUp(c.env) : json(said);
  });
  return app;
}
