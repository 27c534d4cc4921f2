/**
 * One health check over the network: a TCP connection that is made and closed by a reset, or an HTTP request whose status
 * counts, 200 to 399 as for Kubernetes' probes. A body is never read.
 */
import { request } from 'node:http';
import { connect } from 'node:net';
import type { CheckTarget, Dial } from './checker.ts';

/** All headers of an answer together. */
const MOST_HEADER_BYTES = 16_384;

export const dial: Dial = (target, done) => (target.type === 'tcp' ? dialTcp(target, done) : dialHttp(target, done));

function dialTcp({ address, l4Port }: CheckTarget, done: (failure?: string) => void): () => void {
  const socket = connect({ host: address, port: l4Port });
  let isOver = false;
  const end = (): void => {
    isOver = true;
    // Before it is connected, a reset would wait until it is.
    if (socket.connecting) socket.destroy();
    else socket.resetAndDestroy();
  };
  const once = (failure?: string): void => {
    if (isOver) return;
    end();
    done(failure);
  };
  socket.on('connect', () => once());
  // Also errors that come when it is over have a listener.
  socket.on('error', (error) => once(reasonOf(error)));
  return end;
}

function dialHttp({ address, l4Port, path }: CheckTarget, done: (failure?: string) => void): () => void {
  const host = address.includes(':') ? `[${address}]` : address;
  let isOver = false;
  const asked = request({
    ...{ host: address, port: l4Port, path, agent: false, maxHeaderSize: MOST_HEADER_BYTES },
    headers: { host: `${host}:${l4Port}`, 'user-agent': 'weft-health-check', connection: 'close' },
  });
  const end = (): void => {
    isOver = true;
    asked.destroy();
  };
  const once = (failure?: string): void => {
    if (isOver) return;
    end();
    done(failure);
  };
  asked.on('response', ({ statusCode = 0 }) =>
    once(statusCode >= 200 && statusCode < 400 ? undefined : `status ${statusCode}`),
  );
  asked.on('upgrade', () => once('status 101'));
  asked.on('error', (error) => once(reasonOf(error)));
  asked.end();
  return end;
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refused',
  ECONNRESET: 'reset',
  EHOSTUNREACH: 'no route to it',
  ENETUNREACH: 'no route to it',
  ETIMEDOUT: 'no answer',
};

/** In a few words; never what the other side has sent. */
function reasonOf(error: NodeJS.ErrnoException): string {
  const { code = '' } = error;
  if (code.startsWith('HPE_')) return 'not an HTTP answer';
  return reasons[code] ?? (code || 'failed');
}
