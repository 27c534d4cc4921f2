/**
 * The typed client of the daemon's API, with one method for each method of the switch.
 * Failures arrive as the WeftError that the daemon threw. Following something gives an async
 * iterable that ends when `signal` is aborted, and throws `unreachable` when the daemon stops.
 */
import { WeftError } from '../error.ts';
import type {
  AcceptReport,
  ApplyReport,
  ConfirmReport,
  ConnectionReport,
  DecisionReport,
  DoctorReport,
  DropReport,
  EndpointReport,
  FlowReport,
  HostReport,
  InForceReport,
  MetricReport,
  NetworkReport,
  StatusReport,
  WhyReport,
} from '../model/report.ts';
import type { DiffReport, PolicyTestReport } from '../model/policy-report.ts';
import type { PolicyEventReport, TalkFilter } from '../model/talk-report.ts';
import type { ServiceEvent, ServiceReport } from '../model/service-report.ts';
import type { TakeoverAnswer, TakeoverRequest } from '../handover/request.ts';
import type { Resource, ResourceEvent } from '../model/resource.ts';
import { CAPTURE_ID_HEADER, LOST, MESSAGE_HEADER_BYTES } from './capture-stream.ts';
import {
  type AttachRequest,
  BODY_LIMIT_BYTES,
  BUILD_HEADER,
  type CaptureOptions,
  type ConnectionsOptions,
  type NetworkOptions,
} from './target.ts';
import { SocketTransport, type ApiRequest, type ApiResponse, type ApiMethod, type Transport } from './transport.ts';

/** Sent by Node's server if it could not read a request in time. */
const REQUEST_TIMEOUT = 408;

/** How often a request is sent, at most, if daemons take over from each other. */
const TRIES = 5;

export const DEFAULT_SOCKET = '/run/weft/weft.sock';

/** What a follower gets. */
export type Followed<T> =
  /** From here on nothing is missed without a `lost` event. */
  | { readonly kind: 'open' }
  | { readonly kind: 'item'; readonly item: T }
  /** So many items were left out here, because this reader is too slow. */
  | { readonly kind: 'lost'; readonly count: number };

/** An event of a capture. */
export type CaptureEvent =
  | { readonly kind: 'blocks'; readonly frames: number; readonly blocks: Buffer }
  /** So many frames were left out here. */
  | { readonly kind: 'lost'; readonly count: number };

/** Of a namespaced kind; by default the namespace `default`. */
export interface InNamespace {
  readonly namespace?: string | undefined;
}

/** Which resources of a kind. */
export interface Selection extends InNamespace {
  /** As in Kubernetes: `app=web,tier!=cache` (model/selector.ts). */
  readonly labelSelector?: string | undefined;
}

export class Client {
  readonly #transport: Transport;
  #daemonBuild: string | null | undefined;

  /** @param to the path of the daemon's socket, or another way to a switch */
  constructor(to: string | Transport = DEFAULT_SOCKET) {
    this.#transport = typeof to === 'string' ? new SocketTransport(to) : to;
  }

  /** True if its switch, which is in this process, is closed. */
  get isClosed(): boolean {
    return this.#transport.isClosed ?? false;
  }

  /** The build of the daemon that has answered: null for one that does not say, undefined before the first answer. */
  get daemonBuild(): string | null | undefined {
    return this.#daemonBuild;
  }

  status(): Promise<StatusReport> {
    return this.#call('GET', '/status');
  }

  metrics(): Promise<MetricReport[]> {
    return this.#call('GET', '/metrics');
  }

  /** As Prometheus reads them. */
  async metricsText({ openmetrics = false }: { readonly openmetrics?: boolean } = {}): Promise<string> {
    const accept = openmetrics ? 'application/openmetrics-text' : 'text/plain';
    const response = await this.#send({ method: 'GET', path: '/metrics', headers: { accept } });
    const text = await this.#text(response);
    if (response.statusCode !== 200) answer(response, text);
    return text;
  }

  hosts(): Promise<HostReport[]> {
    return this.#call('GET', '/hosts');
  }

  doctor(): Promise<DoctorReport> {
    return this.#call('GET', '/doctor');
  }

  /** Puts into force what a shared store says although it is not what it was. */
  acceptStore(): Promise<AcceptReport> {
    return this.#call('POST', '/store/accept', {});
  }

  /** Waits until everything that the daemon has in force is in force on all hosts that are not down. */
  wait(timeoutMs: number): Promise<InForceReport> {
    return this.#call('POST', '/wait', { timeoutMs });
  }

  /** Resolves when the switch is closed; the socket goes right after that. */
  async shutdown(options: { purge: boolean }): Promise<void> {
    await this.#call('POST', '/shutdown', options);
  }

  networks(): Promise<NetworkReport[]> {
    return this.#call('GET', '/networks');
  }

  createNetwork(name: string, options: NetworkOptions): Promise<NetworkReport> {
    return this.#call('POST', '/networks', { name, ...options });
  }

  async removeNetwork(name: string): Promise<void> {
    await this.#call('DELETE', `/networks/${segment(name)}`);
  }

  endpoints(): Promise<EndpointReport[]> {
    return this.#call('GET', '/endpoints');
  }

  attach(options: AttachRequest): Promise<EndpointReport> {
    return this.#call('POST', '/endpoints', options);
  }

  async detach(name: string, place: InNamespace = {}): Promise<ApplyReport> {
    return this.#call('DELETE', `/endpoints/${pathOf(name, place)}`);
  }

  /** All of them, or none. @param resources as in manifests; the daemon validates them */
  apply(
    resources: readonly object[],
    options: { dryRun?: boolean; confirmMs?: number | undefined } = {},
  ): Promise<ApplyReport[]> {
    return this.#call('POST', '/resources', { resources, ...options });
  }

  /** Keeps the change that waits to be confirmed. */
  confirm(): Promise<ConfirmReport> {
    return this.#call('POST', '/confirm');
  }

  /** What the PolicyTests say if these were applied: those among them, and those that are stored. */
  policyTests(resources: readonly object[]): Promise<PolicyTestReport[]> {
    return this.#call('POST', '/policy-tests', { resources });
  }

  /** What would be different if these were applied. */
  diff(resources: readonly object[]): Promise<DiffReport> {
    return this.#call('POST', '/diff', { resources });
  }

  async delete(kind: string, name: string, place: InNamespace = {}): Promise<ApplyReport> {
    return this.#call('DELETE', `/resources/${kind}/${pathOf(name, place)}`);
  }

  /** Without a name all; without a namespace those of all, and one by its name in `default`. */
  async get(kind: string, name?: string, which: Selection = {}): Promise<Resource[]> {
    return this.#call('GET', resourcesPath(kind, name, which));
  }

  /**
   * What there is, then `open`, then every change. After `lost`, everything is listed again, up to the next `open`. It
   * ends when the daemon stops in order.
   */
  followResources(
    { kind, name, ...which }: Selection & { readonly kind: string; readonly name?: string | undefined },
    signal: AbortSignal,
  ): AsyncGenerator<Followed<ResourceEvent>> {
    return this.#follow(resourcesPath(kind, name, which, { watch: 'true' }), signal);
  }

  /** Sets labels; null takes one away. */
  async label(
    kind: string,
    name: string,
    labels: Readonly<Record<string, string | null>>,
    place: InNamespace = {},
  ): Promise<ApplyReport> {
    return this.#call('POST', `/resources/${kind}/${segment(name)}/labels${queryOf(place)}`, { labels });
  }

  trace(flow: string): Promise<DecisionReport> {
    return this.#call('POST', '/trace', { flow });
  }

  async why(id: string): Promise<WhyReport> {
    return this.#call('GET', `/why/${segment(id)}`);
  }

  flows(of: TalkFilter = {}): Promise<FlowReport[]> {
    return this.#call('GET', `/flows${queryOf(of)}`);
  }

  drops(of: TalkFilter = {}): Promise<DropReport[]> {
    return this.#call('GET', `/drops${queryOf(of)}`);
  }

  /** What policies have denied and ended lately. */
  policyLog(of: TalkFilter = {}): Promise<PolicyEventReport[]> {
    return this.#call('GET', `/policy-log${queryOf(of)}`);
  }

  /** All, or those of what is named. */
  connections(of: ConnectionsOptions = {}): Promise<ConnectionReport[]> {
    return this.#call('GET', `/connections${queryOf(of)}`);
  }

  /** Without a name: those of the namespace, or all. */
  async services(name?: string, place: InNamespace = {}): Promise<ServiceReport[]> {
    return this.#call('GET', name === undefined ? `/services${queryOf(place)}` : `/services/${pathOf(name, place)}`);
  }

  /**
   * What there is, then `open`, then each that has changed, at most once a second. It ends when the daemon stops in order.
   * Which ones: as for `services`.
   */
  followServices(
    name: string | undefined,
    place: InNamespace,
    signal: AbortSignal,
  ): AsyncGenerator<Followed<ServiceEvent>> {
    const query = new URLSearchParams({ ...(place.namespace !== undefined && place), watch: 'true' }).toString();
    return this.#follow(`/services${name === undefined ? '' : `/${segment(name)}`}?${query}`, signal);
  }

  followFlows(signal: AbortSignal, of: TalkFilter = {}): AsyncGenerator<Followed<FlowReport>> {
    return this.#follow(`/flows${queryOf({ ...of, follow: '' })}`, signal);
  }

  followDrops(signal: AbortSignal, of: TalkFilter = {}): AsyncGenerator<Followed<DropReport>> {
    return this.#follow(`/drops${queryOf({ ...of, follow: '' })}`, signal);
  }

  followPolicyLog(signal: AbortSignal, of: TalkFilter = {}): AsyncGenerator<Followed<PolicyEventReport>> {
    return this.#follow(`/policy-log${queryOf({ ...of, follow: '' })}`, signal);
  }

  /**
   * The blocks of one pcapng file, its header first. When `signal` is aborted, the daemon ends the capture, and
   * everything still under way comes before the end; a caller who does not want that stops reading.
   */
  async *capture(options: CaptureOptions, signal: AbortSignal): AsyncGenerator<CaptureEvent> {
    if (signal.aborted) return;
    const opening = new AbortController();
    let end = (): void => opening.abort();
    const onAbort = (): void => end();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const response = await this.#open('POST', '/capture', opening.signal, options);
      if (!response) return;
      const path = `/capture/${String(response.headers[CAPTURE_ID_HEADER])}`;
      end = () => void this.#call('DELETE', path).catch(() => response.destroy());
      try {
        yield* messages(response);
      } catch (error) {
        throw error instanceof WeftError ? error : this.#transport.gone(error);
      }
      if (!signal.aborted) throw this.#transport.gone();
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Asks the daemon to hand over to another one. */
  takeover(request: TakeoverRequest): Promise<TakeoverAnswer> {
    return this.#call('POST', '/takeover', request);
  }

  async #call<T>(method: ApiMethod, path: string, body?: unknown): Promise<T> {
    for (let tries = 1; ; tries++) {
      const response = await this.#request(method, path, body);
      const text = await this.#text(response);
      // Nothing has been done: another daemon has taken over, and is already the one who listens.
      if (response.headers['retry-after'] !== undefined && tries < TRIES) continue;
      return answer(response, text) as T;
    }
  }

  async *#follow<T>(path: string, signal: AbortSignal): AsyncGenerator<Followed<T>> {
    const response = await this.#open('GET', path, signal);
    if (!response) return;
    response.setEncoding('utf8');
    let buffer = '';
    try {
      for await (const chunk of response) {
        buffer += chunk;
        let from = 0;
        for (let end = buffer.indexOf('\n\n'); end >= 0; end = buffer.indexOf('\n\n', from)) {
          const event = parseEvent<T>(buffer.slice(from, end));
          if (event.kind === 'end') return;
          yield event;
          from = end + 2;
        }
        buffer = buffer.slice(from);
      }
    } catch (error) {
      if (signal.aborted) return;
      throw error instanceof WeftError ? error : this.#transport.gone(error);
    }
    throw this.#transport.gone();
  }

  /** A response that continues; undefined if `signal` was aborted before it began. */
  async #open(method: ApiMethod, path: string, signal: AbortSignal, body?: unknown): Promise<ApiResponse | undefined> {
    let response: ApiResponse;
    try {
      response = await this.#request(method, path, body, signal);
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
    if (response.statusCode !== 200) answer(response, await this.#text(response));
    return response;
  }

  async #request(method: ApiMethod, path: string, body?: unknown, signal?: AbortSignal): Promise<ApiResponse> {
    const text = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    if (text && text.length > BODY_LIMIT_BYTES) {
      throw new WeftError(
        'invalid',
        `the request has ${text.length} bytes: at most ${BODY_LIMIT_BYTES} are accepted, apply fewer manifests at once`,
      );
    }
    const headers = text && { 'content-type': 'application/json', 'content-length': text.length };
    return this.#send({ path: `/v1${path}`, method, signal, headers, body: text });
  }

  async #send(request: ApiRequest): Promise<ApiResponse> {
    const response = await this.#transport.send(request);
    const { [BUILD_HEADER]: build } = response.headers;
    this.#daemonBuild = typeof build === 'string' ? build : null;
    return response;
  }

  async #text(response: ApiResponse): Promise<string> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of response) chunks.push(chunk as Buffer);
    } catch (error) {
      throw this.#transport.gone(error);
    }
    return Buffer.concat(chunks).toString();
  }
}

/** A name within a path. @throws WeftError('invalid') for one that would mean another path, and can be no name */
function segment(name: string): string {
  if (name === '' || name === '.' || name === '..')
    throw new WeftError('invalid', `${JSON.stringify(name)} is not a name: letters, digits and "-" are accepted`);
  return encodeURIComponent(name);
}

/** `?namespace=shop`, or nothing. */
function queryOf(of: object): string {
  const given = Object.entries(of).filter((pair): pair is [string, string] => pair[1] !== undefined);
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
}

function resourcesPath(
  kind: string,
  name: string | undefined,
  { namespace, labelSelector }: Selection,
  more: Readonly<Record<string, string>> = {},
): string {
  const query = new URLSearchParams({
    ...(namespace !== undefined && { namespace }),
    ...(labelSelector !== undefined && { labelSelector }),
    ...more,
  }).toString();
  const path = `/resources/${kind}${name === undefined ? '' : `/${segment(name)}`}`;
  return query === '' ? path : `${path}?${query}`;
}

function pathOf(name: string, place: InNamespace): string {
  return `${segment(name)}${queryOf(place)}`;
}

function answer(response: ApiResponse, text: string): unknown {
  if (response.statusCode === REQUEST_TIMEOUT) {
    throw new WeftError('unreachable', 'the daemon is too busy: it did not read the request in time; try again');
  }
  let value: { error?: Pick<WeftError, 'code' | 'message' | 'resource'> };
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new WeftError(
      'unreachable',
      `the daemon gave no JSON but HTTP ${response.statusCode}: is it another program?`,
      { cause: error },
    );
  }
  if (!value.error) return value;
  const { code, message, resource } = value.error;
  throw Object.assign(new WeftError(code, message), resource && { resource });
}

/** The messages of a capture (capture-stream.ts), assembled from the pieces in which they arrive. */
export async function* messages(response: AsyncIterable<Buffer>): AsyncGenerator<CaptureEvent> {
  // A message of megabytes comes in many pieces, which are joined once.
  let pieces: Buffer[] = [];
  let pieceBytes = 0;
  let neededBytes = MESSAGE_HEADER_BYTES;
  for await (const chunk of response) {
    pieces.push(chunk);
    pieceBytes += chunk.length;
    while (pieceBytes >= neededBytes) {
      const all = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces, pieceBytes);
      const end = MESSAGE_HEADER_BYTES + all.readUInt32LE(4);
      if (all.length >= end) yield messageOf(all.subarray(0, end));
      const rest = all.length >= end ? all.subarray(end) : all;
      neededBytes = all.length >= end ? MESSAGE_HEADER_BYTES : end;
      pieces = [rest];
      pieceBytes = rest.length;
    }
  }
}

/** @param message the whole message, with its header */
function messageOf(message: Buffer): CaptureEvent {
  const body = message.subarray(MESSAGE_HEADER_BYTES);
  const count = body.readUInt32LE(0);
  return message.readUInt32LE(0) === LOST
    ? { kind: 'lost', count }
    : { kind: 'blocks', frames: count, blocks: body.subarray(4) };
}

function parseEvent<T>(text: string): Followed<T> | { readonly kind: 'end' } {
  const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(text) ?? [];
  if (data === undefined)
    throw new WeftError('internal', `the daemon sent an event that is none: ${text.slice(0, 80)}`);
  switch (name) {
    case 'open':
    case 'end':
      return { kind: name };
    case 'lost':
      return { kind: 'lost', count: Number(data) };
    default:
      return { kind: 'item', item: JSON.parse(data) as T };
  }
}
