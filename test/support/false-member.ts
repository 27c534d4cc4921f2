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

export interface Answers {
  /** To each `Range`; by default nothing is stored. @returns a message */
  readonly range?: (request: { readonly limit?: unknown }) => Buffer;
  readonly transaction?: () => Buffer | { readonly code: number; readonly details: string };
  /** To each request of a watch; by default it is silent. */
  readonly watch?: (request: { readonly progressRequest?: object }, send: (message: Buffer) => void) => void;
  /** To each request of the nth stream, from 1. */
  readonly keepAlive?: (send: (message: Buffer) => void, stream: number) => void;
}

export interface FalseMember {
  readonly etcd: Etcd;
  /** How many watches there were. */
  readonly watches: () => number;
}

/** It ends with the test. */
export async function falseMember(t: Test, answers: Answers): Promise<FalseMember> {
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
  type Answer = (error: object | null, message?: Buffer) => void;
  server.addService(
    {
      range: method('KV/Range', false),
      transaction: method('KV/Txn', false),
      watch: method('Watch/Watch', true),
      keepAlive: method('Lease/LeaseKeepAlive', true),
    },
    {
      range: ({ request }: { request: Buffer }, answer: Answer) =>
        answer(null, answers.range?.(rangeRequest.toObject(rangeRequest.decode(request))) ?? nothing),
      transaction: (_: unknown, answer: Answer) => {
        const given = answers.transaction?.() ?? nothing;
        if (Buffer.isBuffer(given)) answer(null, given);
        else answer(given);
      },
      watch: (call: ServerDuplexStream<Buffer, Buffer>) => {
        watches++;
        call.on('data', (request: Buffer) =>
          answers.watch?.(watchRequest.toObject(watchRequest.decode(request)), (message) => void call.write(message)),
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
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  t.teardown(() => server.forceShutdown());
  return { etcd: { members: [{ clientAddress: `127.0.0.1:${port}` }] } as unknown as Etcd, watches: () => watches };
}
