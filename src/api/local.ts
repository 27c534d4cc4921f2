/** Requests to a switch in the same process: answered by the routes, as those that come over a socket. */
import { addAbortSignal, Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { WeftError } from '../error.ts';
import { routes } from './routes.ts';
import type { ApiTarget } from './target.ts';
import type { ApiRequest, ApiResponse, Transport } from './transport.ts';

export class LocalTransport implements Transport {
  readonly #target: ApiTarget;
  readonly #answer: ReturnType<typeof routes>['fetch'];

  /** `onInternal` is told about errors that are defects of weft. */
  constructor(target: ApiTarget, onInternal: (error: unknown) => void) {
    this.#target = target;
    this.#answer = routes(target, onInternal).fetch;
  }

  get isClosed(): boolean {
    return this.#target.isStopping();
  }

  async send({ method, path, headers = {}, body, signal }: ApiRequest): Promise<ApiResponse> {
    if (this.isClosed) throw this.gone();
    signal?.throwIfAborted();
    const fields = Object.entries(headers).map(([name, value]): [string, string] => [name, String(value)]);
    const request = new Request(`http://weft${path}`, { method, headers: fields, ...(body && { body }) });
    const { status, headers: answered, body: stream } = await this.#answer(request);
    const read = stream ? Readable.fromWeb(stream as ReadableStream<Uint8Array>) : Readable.from([]);
    if (signal) addAbortSignal(signal, read);
    return Object.assign(read, { statusCode: status, headers: Object.fromEntries(answered) });
  }

  gone(cause?: unknown): WeftError {
    return new WeftError('unreachable', 'this switch is closed', { cause });
  }
}
