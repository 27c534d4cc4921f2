/** The daemon's side of the API: the routes of `routes.ts` on the daemon's socket (`http/unix-server.ts`). */
import { openUnixServer, type UnixServer, type UnixServerOptions } from '../http/unix-server.ts';
import { build } from '../package.ts';
import { BUILD_HEADER, type ApiTarget } from './target.ts';

export interface ApiServer extends Omit<UnixServer, 'serve'> {
  /** Answers from now on. `onInternal` is told about errors that are defects of weft. */
  serve(target: ApiTarget, onInternal: (error: unknown) => void): Promise<void>;
}

/** The name of the listening socket among descriptors. */
export const API_DESCRIPTOR = 'api';

export type ApiOptions = Pick<UnixServerOptions, 'cap' | 'onRefused' | 'descriptors'>;

/** @throws WeftError `conflict` if another daemon has the socket; `system` if it cannot be created */
export async function openApi(socketPath: string, options: ApiOptions = {}): Promise<ApiServer> {
  const server = await openUnixServer(socketPath, {
    ...options,
    name: API_DESCRIPTOR,
    headers: { [BUILD_HEADER]: build },
    failure: ({ code, message }) => ({ error: { code, message } }),
  });
  return {
    ...server,
    serve: (target, onInternal) =>
      server.serve(async () => (await import('./routes.ts')).routes(target, onInternal).fetch),
  };
}
