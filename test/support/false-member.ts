/** A member of etcd that answers as a test wants it to, since etcd does that rarely. */
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import type { Test } from 'tap';
import { api } from '../../src/store/etcd/messages.ts';
import type { Etcd } from './etcd.ts';

export const header = { clusterId: 1, revision: 7 };

/** A message of etcd.proto. */
export function messageOf(type: string, fields: object): Buffer {
  return Buffer.from(api.lookupType(type).encode(fields).finish());
}

/** A message, or an error of gRPC. */
export type Answer = Buffer | { readonly code: number; readonly details: string };

/** What a member is asked for. A field that was not sent is undefined. */
export interface RangeAsked {
  readonly key: Uint8Array;
  readonly rangeEnd?: Uint8Array;
  /** Only a list has one. */
  readonly limit?: unknown;
  readonly keysOnly?: boolean;
}

interface WatchAsked {
  readonly createRequest?: { readonly key: Uint8Array; readonly fragment?: boolean };
  readonly progressRequest?: object;
}

export interface Answers {
  /** To each `Range`; by default nothing is stored. @returns a message */
  readonly range?: (request: RangeAsked) => Answer;
  readonly transaction?: () => Answer;
  /** To each request of a watch; by default it is silent. */
  readonly watch?: (request: WatchAsked, send: (message: Buffer) => void) => void;
  /** To each request of the nth stream, from 1. */
  readonly keepAlive?: (send: (message: Buffer) => void, stream: number) => void;
}

type Callback = (error: object | null, message?: Buffer) => void;

export interface FalseMember {
  readonly etcd: Etcd;
  /** How many watches there were. */
  readonly watches: () => number;
}

/** It ends with the test. @param at where it listens */
export async function falseMember(t: Test, answers: Answers, at = '127.0.0.1:0'): Promise<FalseMember> {
  let [watches, keepAlives] = [0, 0];
  const server = new Server();
  const bytes = (buffer: Buffer): Buffer => buffer;
  const method = (path: string, isStream: boolean) => ({
    path: `/etcdserverpb.${path}`,
    requestStream: isStream,
    responseStream: isStream,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  });
  const [rangeRequest, watchRequest] = [api.lookupType('RangeRequest'), api.lookupType('WatchRequest')];
  const nothing = messageOf('RangeResponse', { header });
  const settle = (callback: Callback, answer: Answer = nothing): void =>
    Buffer.isBuffer(answer) ? callback(null, answer) : callback(answer);
  server.addService(
    {
      range: method('KV/Range', false),
      transaction: method('KV/Txn', false),
      watch: method('Watch/Watch', true),
      keepAlive: method('Lease/LeaseKeepAlive', true),
    },
    {
      range: ({ request }: { request: Buffer }, callback: Callback) =>
        settle(callback, answers.range?.(rangeRequest.toObject(rangeRequest.decode(request)) as RangeAsked)),
      transaction: (_: unknown, callback: Callback) => settle(callback, answers.transaction?.()),
      watch: (call: ServerDuplexStream<Buffer, Buffer>) => {
        watches++;
        const send = (message: Buffer): void => void call.write(message);
        call.on('data', (request: Buffer) =>
          answers.watch?.(watchRequest.toObject(watchRequest.decode(request)) as WatchAsked, send),
        );
        call.on('error', () => {});
      },
      keepAlive: (call: ServerDuplexStream<Buffer, Buffer>) => {
        const stream = ++keepAlives;
        call.on('data', () => answers.keepAlive?.((message) => void call.write(message), stream));
        call.on('error', () => {});
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(at, ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  t.teardown(() => server.forceShutdown());
  return {
    etcd: { members: [{ clientAddress: `${at.replace(/:\d+$/, '')}:${port}` }] } as unknown as Etcd,
    watches: () => watches,
  };
}
