/**
 * The part of etcd's API (version 3) that weft uses: api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto of
 * github.com/etcd-io/etcd, with their numbers. Fields that weft neither sets nor reads are left out.
 */
import { message, type Fields, type Message } from './protobuf.ts';

export interface Method<Request extends Message<Fields>, Response extends Message<Fields>> {
  /** As gRPC names it. */
  readonly path: string;
  readonly request: Request;
  readonly response: Response;
}

const method = <Request extends Message<Fields>, Response extends Message<Fields>>(
  path: string,
  request: Request,
  response: Response,
): Method<Request, Response> => ({ path: `/etcdserverpb.${path}`, request, response });

const header = message({ clusterId: [1, 'id'], memberId: [2, 'id'], revision: [3, 'int'], raftTerm: [4, 'int'] });
const withHeader = message({ header: [1, header] });
export const keyValue = message({
  key: [1, 'bytes'],
  modRevision: [3, 'int'],
  value: [5, 'bytes'],
  lease: [6, 'id'],
});

const rangeRequest = message({
  key: [1, 'bytes'],
  rangeEnd: [2, 'bytes'],
  limit: [3, 'int'],
  revision: [4, 'int'],
  keysOnly: [8, 'bool'],
});
const rangeResponse = message({ header: [1, header], kvs: [2, [keyValue]], more: [3, 'bool'] });
const putRequest = message({ key: [1, 'bytes'], value: [2, 'bytes'], lease: [3, 'id'] });
const deleteRequest = message({ key: [1, 'bytes'] });

/** One of them. */
const operation = message({ range: [1, rangeRequest], put: [2, putRequest], delete: [3, deleteRequest] });
/** `result` EQUAL, `target` MOD. */
export const COMPARE_MOD_REVISION = { result: 0, target: 2 };
const compare = message({ result: [1, 'int'], target: [2, 'int'], key: [3, 'bytes'], modRevision: [6, 'int'] });
const transactionRequest = message({ compare: [1, [compare]], success: [2, [operation]], failure: [3, [operation]] });
const transactionResponse = message({
  header: [1, header],
  succeeded: [2, 'bool'],
  responses: [3, [message({ range: [1, rangeResponse] })]],
});

const watchCreate = message({
  key: [1, 'bytes'],
  rangeEnd: [2, 'bytes'],
  startRevision: [3, 'int'],
  fragment: [8, 'bool'],
});
/** One of them. */
const watchRequest = message({ create: [1, watchCreate], progress: [3, message({})] });
export const DELETED = 1;
const watchResponse = message({
  header: [1, header],
  isCreated: [3, 'bool'],
  isCanceled: [4, 'bool'],
  compactRevision: [5, 'int'],
  cancelReason: [6, 'text'],
  /** More events of this response follow in the next one. */
  isFragment: [7, 'bool'],
  events: [11, [message({ type: [1, 'int'], kv: [2, keyValue] })]],
});

const grantResponse = message({ header: [1, header], id: [2, 'id'], ttl: [3, 'int'] });
const lease = message({ id: [1, 'id'] });

export const range = method('KV/Range', rangeRequest, rangeResponse);
export const transaction = method('KV/Txn', transactionRequest, transactionResponse);
export const watch = method('Watch/Watch', watchRequest, watchResponse);
export const leaseGrant = method('Lease/LeaseGrant', message({ ttl: [1, 'int'] }), grantResponse);
export const leaseRevoke = method('Lease/LeaseRevoke', lease, withHeader);
export const leaseKeepAlive = method('Lease/LeaseKeepAlive', lease, grantResponse);
export const authenticate = method(
  'Auth/Authenticate',
  message({ name: [1, 'text'], password: [2, 'text'] }),
  message({ header: [1, header], token: [2, 'text'] }),
);
