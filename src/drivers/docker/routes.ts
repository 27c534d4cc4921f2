/** The HTTP side of the driver: POST /METHOD with a JSON body (Docker's plugin protocol, version 1). */
import { Hono } from 'hono';
import { WeftError } from '../../error.ts';
import { readBody } from '../../http/body.ts';
import { refusal, type Answer, type Docker } from './docker.ts';

/** More than Docker ever sends for one endpoint. */
const BODY_LIMIT_BYTES = 1 << 20;
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';

export function dockerRoutes(docker: Pick<Docker, 'answer'>): Hono {
  const app = new Hono();
  app.post('/:method', async (c) => {
    let body: unknown;
    try {
      const text = await readBody(c.req.raw, BODY_LIMIT_BYTES);
      if (text !== '') body = JSON.parse(text);
    } catch (error) {
      const { message } = error as Error;
      return response(refusal(error instanceof WeftError ? message : `the request body is not JSON: ${message}`));
    }
    // A method that weft does not know is how Docker finds out which are optional.
    const answer = docker.answer(c.req.param('method'), body);
    return answer ? response(await answer) : c.notFound();
  });
  return app;
}

function response({ status = 200, body }: Answer): Response {
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': CONTENT_TYPE } });
}
