/** How requests of the API's client get to a switch: over the socket of a daemon, or (`local.ts`) within the process. */
import { request as httpRequest, type ClientRequest, type IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { WeftError } from '../error.ts';
import { isSilent } from '../http/socket.ts';

export type ApiMethod = 'GET' | 'POST' | 'DELETE';

export interface ApiRequest {
  readonly method: ApiMethod;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | number>> | undefined;
  readonly body?: Buffer | undefined;
  /** Ends the request, and the response if that has begun. */
  readonly signal?: AbortSignal | undefined;
}

/** The body is read from the stream. */
export interface ApiResponse extends Readable {
  readonly statusCode?: number | undefined;
  readonly headers: IncomingHttpHeaders;
}

export interface Transport {
  /** Resolves when the response has begun. @throws WeftError('unreachable') */
  send(request: ApiRequest): Promise<ApiResponse>;
  /** True if nothing will be answered any more. */
  readonly isClosed?: boolean;
  /** What to say of a response that did not come to its end. */
  gone(cause?: unknown): WeftError;
}

/**
 * A request may take long: a change waits for the store, and `--wait` for other hosts. So it has no limit of its own, but
 * while no answer has begun, the daemon is asked each `everyMs` whether it is there at all, which it answers within
 * `withinMs` unless it hangs. While another daemon takes over, nobody answers for some seconds.
 */
const SIGN_OF_LIFE = { everyMs: 3000, withinMs: 8000 } as const;

export class SocketTransport implements Transport {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  send({ method, path, headers, body, signal }: ApiRequest): Promise<ApiResponse> {
    const options = { method, path, ...(headers && { headers }), ...(signal && { signal }) };
    return new Promise((resolve, reject) => {
      const request = httpRequest({ socketPath: this.#socketPath, host: 'weft', agent: false, ...options });
      const watching = this.#watch(request);
      request.once('response', (response) => {
        watching.abort();
        resolve(response);
      });
      request.once('error', (error) => {
        watching.abort();
        reject(error instanceof WeftError ? error : this.#unreachable(error));
      });
      request.end(body);
    });
  }

  gone(cause?: unknown): WeftError {
    const detail = cause instanceof Error ? ` (${cause.message})` : '';
    return new WeftError('unreachable', `the weft daemon on ${this.#socketPath} went away${detail}: see its log`, {
      cause,
    });
  }

  /** Ends the request if the daemon shows no sign of life; until it is aborted. */
  #watch(request: ClientRequest): AbortController {
    const watching = new AbortController();
    const { signal } = watching;
    const { everyMs, withinMs } = SIGN_OF_LIFE;
    const look = async (): Promise<void> => {
      const isHanging = await isSilent(this.#socketPath, withinMs);
      if (signal.aborted) return;
      if (isHanging) request.destroy(this.#hangs());
      else wait();
    };
    const wait = (): void => {
      AbortSignal.timeout(everyMs).addEventListener('abort', () => signal.aborted || void look(), { once: true });
    };
    wait();
    return watching;
  }

  #hangs(): WeftError {
    return new WeftError(
      'unreachable',
      `the weft daemon on ${this.#socketPath} does not answer: see its log, and whether its process is stopped or the machine is too busy (\`ps -o pid,stat,etime,args -C node\`)`,
    );
  }

  #unreachable(error: NodeJS.ErrnoException): WeftError {
    const path = this.#socketPath;
    switch (error.code) {
      case 'ENOENT':
      case 'ECONNREFUSED':
      case 'ENOTSOCK':
        return new WeftError(
          'unreachable',
          `no weft daemon answers on ${path}: start it with \`weft up\`, or name its socket with --socket`,
          { cause: error },
        );
      case 'EACCES':
      case 'EPERM':
        return new WeftError('unreachable', `${path}: permission denied: run weft as root (sudo weft …)`, {
          cause: error,
        });
      default:
        return this.gone(error);
    }
  }
}
