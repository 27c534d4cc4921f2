/**
 * The messages of etcd's API that weft uses: their types here, their encoding in etcd.proto, by protobufjs. A field that an
 * answer does not have has its default value (0, false, empty); a message that it does not have is null.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { packageRoot } from '../../package.ts';
import { Failure } from './failure.ts';

/** 64 bits. Those of etcd.proto that are int64 are safe integers. */
export interface Int64 {
  toNumber(): number;
  toString(radix: number): string;
}

interface Answer {
  readonly header: { readonly clusterId: Int64; readonly revision: Int64 };
}

export interface KeyValue {
  readonly key: Uint8Array;
  readonly modRevision: Int64;
  readonly value: Uint8Array;
  readonly lease: Int64;
}

export interface RangeRequest {
  readonly key: Uint8Array;
  readonly rangeEnd?: Uint8Array;
  readonly limit?: number;
  readonly revision?: number;
  readonly keysOnly?: boolean;
}

export interface RangeResponse extends Answer {
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
}

/** A `RangeResponse` whose entries are still bytes: `keyStampOf` and `keyValueOf` read them. */
export interface RangePage extends Answer {
  readonly kvs: readonly Uint8Array[];
  readonly more: boolean;
}

/** What a `KeyValue` has beside its value. */
export interface KeyStamp {
  readonly key: string;
  readonly modRevision: Int64;
}

interface RequestOp {
  readonly requestRange?: RangeRequest;
  /** The lease is a decimal number. */
  readonly requestPut?: { readonly key: Uint8Array; readonly value: Uint8Array; readonly lease?: string };
  readonly requestDeleteRange?: { readonly key: Uint8Array };
}

interface Compare {
  readonly result: number;
  readonly target: number;
  readonly key: Uint8Array;
  readonly modRevision: number;
}

interface TxnRequest {
  readonly compare: readonly Compare[];
  readonly success: readonly RequestOp[];
  readonly failure: readonly RequestOp[];
}

interface TxnResponse extends Answer {
  readonly succeeded: boolean;
  readonly responses: readonly { readonly responseRange: Pick<RangeResponse, 'kvs'> | null }[];
}

/** One of them. */
export interface WatchRequest {
  readonly createRequest?: {
    readonly key: Uint8Array;
    readonly rangeEnd: Uint8Array;
    readonly startRevision: number;
    readonly fragment: boolean;
  };
  readonly progressRequest?: object;
}

export interface Event {
  readonly type: number;
  readonly kv: KeyValue;
}

export interface WatchResponse extends Answer {
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: Int64;
  readonly cancelReason: string;
  readonly fragment: boolean;
  readonly events: readonly Event[];
}

/** A decimal number. */
export interface LeaseRequest {
  readonly ID: string;
}

export interface Method<Request, Response> {
  /** As gRPC names it. */
  readonly path: string;
  /** A field that is given is encoded, also if it has its default value. */
  readonly encode: (request: Request) => Buffer;
  /** What it returns refers to the bytes. @throws Error if they are no such message, or lack one that must be in it */
  readonly decode: (bytes: Buffer) => Response;
}

/** All of etcd.proto. */
export const api = protobuf
  .parse(readFileSync(join(packageRoot, 'src/store/etcd/etcd.proto'), 'utf8'))
  .root.resolveAll();

class Reader extends protobuf.BufferReader {
  override int64(): ReturnType<protobuf.BufferReader['int64']> {
    const value = super.int64();
    if (Math.abs(value.high) >= 2 ** 21) throw new Error('a number is too large');
    return value;
  }
}

function typeOf(name: string): protobuf.Type {
  return api.lookupType(`etcdserverpb.${name}`);
}

/** Of a part of an answer. It throws a `Failure` if the bytes are no such message, like gRPC for the whole answer. */
function decoder<Message>(name: string): (bytes: Uint8Array) => Message {
  const type = typeOf(name);
  return (bytes) => {
    try {
      return type.decode(new Reader(bytes)) as unknown as Message;
    } catch (error) {
      throw new Failure(status.INTERNAL, `message parsing error: ${(error as Error).message}`);
    }
  };
}

function method<Request extends object, Response extends Answer>(
  service: string,
  name: string,
  isWhole = ({ header }: Response): boolean => header !== null,
  responseType?: protobuf.Type,
): Method<Request, Response> {
  const { resolvedRequestType, resolvedResponseType } = api.lookupService(service).methods[name]!;
  const answerType = responseType ?? resolvedResponseType!;
  return {
    path: `/etcdserverpb.${service}/${name}`,
    encode: (request) => resolvedRequestType!.encode(request).finish() as Buffer,
    decode: (bytes) => {
      const answer = answerType.decode(new Reader(bytes)) as unknown as Response;
      if (!isWhole(answer)) throw new Error('an answer lacks a message');
      return answer;
    },
  };
}

/** An entry that was not changed since. */
export const COMPARE_MOD_REVISION = { result: 0, target: 2 };
/** The type of an event. */
export const DELETED = 1;

export const range = method<RangeRequest, RangeResponse>('KV', 'Range');
/** The same request. */
export const rangePage = method<RangeRequest, RangePage>('KV', 'Range', undefined, typeOf('RangePage'));
export const keyStampOf = decoder<KeyStamp>('KeyStamp');
/** What it returns refers to the bytes. */
export const keyValueOf = decoder<KeyValue>('KeyValue');
export const transaction = method<TxnRequest, TxnResponse>('KV', 'Txn');
export const watch = method<WatchRequest, WatchResponse>(
  'Watch',
  'Watch',
  ({ header, events }) => header !== null && events.every(({ kv }) => kv !== null),
);
export const leaseGrant = method<{ readonly TTL: number }, Answer & { readonly ID: Int64 }>('Lease', 'LeaseGrant');
export const leaseRevoke = method<LeaseRequest, Answer>('Lease', 'LeaseRevoke');
export const leaseKeepAlive = method<LeaseRequest, Answer & { readonly ID: Int64; readonly TTL: Int64 }>(
  'Lease',
  'LeaseKeepAlive',
);
export const authenticate = method<
  { readonly name: string; readonly password: string },
  Answer & { readonly token: string }
>('Auth', 'Authenticate');
