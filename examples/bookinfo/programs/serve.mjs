/**
 * What the four programs have in common: an HTTP server that answers with JSON, and a way to ask another one.
 *
 *   PORT       where it listens; 9080 if not given
 *   VERSION    what it says that it is; v1 if not given
 *   INSTANCE   its own name in answers; the name of the program and its version if not given
 */
import { createServer, get } from 'node:http';

/** Generous, for a machine that has other things to do, too. */
const TIMEOUT_MS = 5000;

export const port = Number(process.env.PORT ?? 9080);
export const version = process.env.VERSION ?? 'v1';

/**
 * Serves until it is asked to end. Then it takes no new connections, and finishes what has begun.
 * @param {string} program
 * @param {(path: string) => Promise<object | string | undefined> | object | string | undefined} answer an object is sent as
 *   JSON, a string as HTML; undefined means that there is no such page
 */
export function serve(program, answer) {
  const instance = process.env.INSTANCE ?? `${program}-${version}`;
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://any');
    respond(pathname).then(
      ([status, type, body]) => response.writeHead(status, { 'content-type': type, 'x-instance': instance }).end(body),
      (error) => response.writeHead(500).end(`${error.message}\n`),
    );
  });

  /** @returns {Promise<[number, string, string]>} status, type and body */
  async function respond(path) {
    if (path === '/healthz') return [200, 'text/plain', 'ok\n'];
    const found = await answer(path);
    if (found === undefined) return [404, 'text/plain', `${program} has no ${path}\n`];
    if (typeof found === 'string') return [200, 'text/html; charset=utf-8', found];
    return [200, 'application/json', `${JSON.stringify({ ...found, servedBy: instance })}\n`];
  }

  server.listen(port, () => console.log(`${instance} listens on port ${server.address().port}`));
  process.on('SIGTERM', () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}

/**
 * Asks another program, over a connection of its own: each question is balanced anew.
 * @param {string} where `NAME:PORT`
 * @param {import('node:http').Agent | false} agent has the connections that are used again
 * @throws if it does not answer in time, or with an error
 */
export function ask(where, path, agent = false) {
  return new Promise((resolve, reject) => {
    const request = get(`http://${where}${path}`, { agent, timeout: TIMEOUT_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => (text += part));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode !== 200) reject(new Error(`${where}${path}: status ${response.statusCode}`));
        else resolve(JSON.parse(text));
      });
    });
    request.on('timeout', () => request.destroy(new Error(`${where} does not answer`)));
    request.on('error', reject);
  });
}
