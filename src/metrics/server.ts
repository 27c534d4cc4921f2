/**
 * Metrics on a TCP address, for Prometheus: `GET /metrics`, and nothing else of the API. Anybody who reaches the address
 * can read them.
 *
 *   1. `keep` opens the address. If it is taken, or not there yet, `report` says so and the next `keep` tries again
 *   2. connections are limited, and the one that has been idle longest gives way to a new one
 *   3. a client has to take its answer in ANSWER_LOOKS calls of `keep`
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { capConnections } from '../http/connection-cap.ts';
import { formatOf, type Metrics } from './metrics.ts';

export interface MetricsServerOptions {
  /** Undefined: nothing is served. */
  readonly address: { readonly host: string; readonly port: number } | undefined;
  readonly metrics: Pick<Metrics, 'text'>;
  /** Called when it is opened, and when it cannot be opened for another reason than before. */
  readonly onChange: (state: MetricsServerReport) => void;
  /** Told about defects of weft. */
  readonly onInternal: (error: unknown) => void;
}

export interface MetricsServerReport {
  /** As in the configuration. */
  readonly address: string;
  readonly open: boolean;
  readonly why?: string;
}

/** Several Prometheus servers and people, with a margin. */
export const MOST_CONNECTIONS = 32;
/** How often `keep` is called while a client takes its answer; then its connection is closed. */
export const ANSWER_LOOKS = 10;
const RECEIVE_MS = { headersTimeout: 5000, requestTimeout: 5000, connectionsCheckingInterval: 1000 } as const;

export class MetricsServer {
  readonly #options: MetricsServerOptions;
  #server: Server | undefined;
  #isOpen = false;
  #why: string | undefined;
  #looks = 0;
  /** Answers that are not taken yet, with the look at which they began. */
  readonly #answers = new Map<ServerResponse, number>();

  constructor(options: MetricsServerOptions) {
    this.#options = options;
  }

  /** Null if nothing is to be served. */
  report(): MetricsServerReport | null {
    const { address } = this.#options;
    if (!address) return null;
    const { host, port } = address;
    const text = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    return { address: text, open: this.#isOpen, ...(this.#why !== undefined && { why: this.#why }) };
  }

  /** Call it about once a second. */
  keep(): void {
    this.#looks++;
    for (const [response, began] of this.#answers) if (this.#looks - began > ANSWER_LOOKS) response.destroy();
    if (this.#options.address && !this.#server) this.#open(this.#options.address);
  }

  close(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
  }

  #open({ host, port }: { readonly host: string; readonly port: number }): void {
    const server = createServer(RECEIVE_MS, (request, response) => {
      response.once('close', () => this.#answers.delete(response));
      this.#answers.set(response, this.#looks);
      if (mayAnswer(request, response)) void this.#answer(request, response);
      else end(response, 503, 'too many requests at once');
    });
    const mayAnswer = capConnections(server, MOST_CONNECTIONS);
    this.#server = server;
    server.on('error', (error: NodeJS.ErrnoException) => {
      // Also told when a connection cannot be accepted; then it stays open.
      if (server.listening) return;
      this.#server = undefined;
      this.#tell(false, whyNot(error));
    });
    server.listen({ host, port }, () => this.#tell(true, undefined));
  }

  #tell(isOpen: boolean, why: string | undefined): void {
    const isNews = isOpen !== this.#isOpen || why !== this.#why;
    this.#isOpen = isOpen;
    this.#why = why;
    if (isNews) this.#options.onChange(this.report()!);
  }

  async #answer({ method, url, headers }: IncomingMessage, response: ServerResponse): Promise<void> {
    if (url?.split('?', 1)[0] !== '/metrics') return end(response, 404, 'metrics are at /metrics');
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      return end(response, 405, 'metrics can only be read');
    }
    try {
      const { contentType, text } = await this.#options.metrics.text(formatOf(headers.accept));
      response.writeHead(200, { 'content-type': contentType, 'content-length': Buffer.byteLength(text) });
      response.end(text);
    } catch (error) {
      this.#options.onInternal(error);
      end(response, 500, 'internal error: the log of weft has more');
    }
  }
}

function end(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
}

function whyNot({ code, message }: NodeJS.ErrnoException): string {
  switch (code) {
    case 'EADDRINUSE':
      return 'another program has this port';
    case 'EADDRNOTAVAIL':
      return 'this host does not have the address';
    default:
      return message;
  }
}
