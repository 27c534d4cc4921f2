/**
 * The routes under /v1, one for each method of the switch. Bodies and responses are JSON (the
 * schemas of model/report.ts); followed events are server-sent events. A failure is
 * `{"error": {"code", "message"}}` with the status that fits the code.
 */
import { Hono, type Context } from 'hono';
import type * as z from 'zod';
import { WeftError, type ErrorCode } from '../error.ts';
import { readBody } from '../http/body.ts';
import { parseResource } from '../model/manifest.ts';
import { formatOf } from '../metrics/metrics.ts';
import type { PolicyEventReport, TalkFilter } from '../model/talk-report.ts';
import type { DropReport, FlowReport } from '../model/report.ts';
import { refuseUnknownLabels } from '../model/own-labels.ts';
import { refusePrototypeField } from '../model/prototype-field.ts';
import { DEFAULT_NAMESPACE, weightOf, type Resource, type ResourceName } from '../model/resource.ts';
import { matchesLabels } from '../labels.ts';
import { parseSelector } from '../model/selector.ts';
import { validate } from '../model/validate.ts';
import { inTurns } from '../turns.ts';
import { arrayStream } from './array-stream.ts';
import { CAPTURE_ID_HEADER, captureStream } from './capture-stream.ts';
import { eventStream } from './events.ts';
import { resourceStream } from './resource-stream.ts';
import { serviceStream } from './service-stream.ts';
import {
  applyRequest,
  attachRequest,
  captureRequest,
  cniRequest,
  labelRequest,
  networkRequest,
  parseKind,
  shutdownRequest,
  takeoverRequest,
  traceRequest,
  waitRequest,
  whatIfRequest,
} from './requests.ts';
import { BODY_LIMIT_BYTES, DEFAULT_SNAP_BYTES, type ApiTarget } from './target.ts';

const statusOf = {
  usage: 400,
  invalid: 400,
  not_found: 404,
  conflict: 409,
  exhausted: 507,
  system: 500,
  unreachable: 503,
  state: 500,
  internal: 500,
} as const satisfies Record<ErrorCode, number>;

/** Nothing was done (cluster/serial.ts): another daemon may have taken over, and does it. */
const STOPPING = 'the switch is stopping';

/** How many resources of a file are parsed in one turn of the event loop. */
const PARSED_PER_TURN = 64;

/** `onInternal` is told about errors that are defects of weft; the client only gets their message. */
export function routes({ sw, isStopping, shutdown, takeover }: ApiTarget, onInternal: (error: unknown) => void): Hono {
  const all = new Hono();
  const app = all.basePath('/v1');
  /** How to end each capture, by its id. */
  const captures = new Map<string, () => void>();
  let lastCapture = 0;

  all.onError((error, c) => {
    if (error instanceof WeftError && error.message === STOPPING) c.header('retry-after', '0');
    if (error instanceof WeftError) return failure(c, error);
    onInternal(error);
    return failure(c, new WeftError('internal', `internal error: ${error.message} (the daemon's log has more)`));
  });
  all.notFound((c) => failure(c, new WeftError('not_found', `${c.req.method} ${c.req.path} is not part of the API`)));
  all.use(async (_, next) => {
    if (isStopping()) throw new WeftError('unreachable', 'the weft daemon is stopping: `weft up` starts it again');
    await next();
  });

  app.get('/status', (c) => c.json(sw.status()));
  // Not under /v1: programs that scrape expect it here.
  all.get('/metrics', async (c) => {
    const { contentType, text } = await sw.metrics.text(formatOf(c.req.header('accept')));
    return c.body(text, 200, { 'content-type': contentType });
  });
  app.get('/metrics', async (c) => c.json(await sw.metrics.report()));
  app.get('/hosts', async (c) => c.json(await sw.hosts()));
  app.get('/doctor', async (c) => c.json(await sw.doctor()));
  app.post('/store/accept', async (c) => c.json(await sw.acceptStore()));
  app.post('/shutdown', async (c) => {
    await shutdown(await read(c, shutdownRequest));
    return c.json({});
  });
  if (takeover) app.post('/takeover', async (c) => c.json(takeover(await read(c, takeoverRequest))));

  app.get('/networks', (c) => c.json(sw.networks()));
  app.post('/networks', async (c) => {
    const { name, ...options } = await read(c, networkRequest);
    return c.json(await sw.createNetwork(name, options), 201);
  });
  app.delete('/networks/:name', async (c) => {
    await sw.removeNetwork(c.req.param('name'));
    return c.json({});
  });

  app.post('/wait', async (c) => c.json(await sw.wait((await read(c, waitRequest)).timeoutMs, c.req.raw.signal)));

  app.get('/endpoints', (c) => c.json(sw.endpoints()));
  app.post('/endpoints', async (c) => c.json(await sw.attach(await read(c, attachRequest)), 201));
  app.delete('/endpoints/:name', async (c) => c.json(await sw.detach(nameIn(c))));

  app.post('/resources', async (c) => {
    const { resources, ...options } = await read(c, applyRequest);
    return c.json(await sw.apply(await parseAll(resources), options));
  });
  app.post('/confirm', async (c) => c.json(await sw.confirmation.confirm()));
  app.post('/policy-tests', async (c) => {
    const { resources } = await read(c, whatIfRequest);
    return c.json(await sw.whatIf.policyTests(await parseAll(resources)));
  });
  app.post('/diff', async (c) => {
    const { resources } = await read(c, whatIfRequest);
    return c.json(await sw.whatIf.diff(await parseAll(resources)));
  });
  app.get('/resources/:kind', (c) => resources(c, sw, { namespace: c.req.query('namespace') }));
  app.get('/resources/:kind/:name', (c) => resources(c, sw, nameIn(c)));
  app.delete('/resources/:kind/:name', async (c) => c.json(await sw.delete(parseKind(c.req.param('kind')), nameIn(c))));
  app.post('/resources/:kind/:name/labels', async (c) => {
    const { labels } = await read(c, labelRequest);
    const kind = parseKind(c.req.param('kind'));
    refuseUnknownLabels(kind.kind, labels, { field: ['labels'] });
    return c.json(await sw.label(kind, nameIn(c), labels));
  });

  // For the plugin, which prints it as it is.
  app.post('/cni', async (c) => {
    const { isDone, text } = await sw.drivers.cni.answer(await read(c, cniRequest));
    return c.body(text, isDone ? 200 : 422, { 'content-type': 'application/json' });
  });

  app.post('/trace', async (c) => c.json(await sw.trace((await read(c, traceRequest)).flow)));
  app.get('/why/:id', (c) => c.json(sw.why(c.req.param('id'))));
  app.get('/flows', (c) => {
    const of = filterIn(c);
    if (c.req.query('follow') === undefined) return array(c, sw.flows(of));
    return events(eventStream<FlowReport>((send) => sw.onFlow(send, of)));
  });
  app.get('/drops', (c) => {
    const of = filterIn(c);
    if (c.req.query('follow') === undefined) return c.json(sw.drops(of));
    return events(eventStream<DropReport>((send) => sw.onDrop(send, of)));
  });
  app.get('/policy-log', (c) => {
    const of = filterIn(c);
    if (c.req.query('follow') === undefined) return c.json(sw.policies.log(of));
    return events(eventStream<PolicyEventReport>((send) => sw.policies.onEvent(send, of)));
  });
  app.get('/services', (c) => services(c, sw, { namespace: c.req.query('namespace') }));
  app.get('/services/:name', (c) => services(c, sw, nameIn(c)));
  app.get('/connections', (c) => {
    const [endpoint, service, network] = [c.req.query('endpoint'), c.req.query('service'), c.req.query('network')];
    return array(c, sw.connections({ endpoint, service, network }));
  });
  app.post('/capture', async (c) => {
    const { port, filter, snapBytes = DEFAULT_SNAP_BYTES } = await read(c, captureRequest);
    const options = { snapBytes, ...(port !== undefined && { port }), ...(filter && { filter }) };
    const id = String(++lastCapture);
    const { body, end } = captureStream(
      (sink) => sw.capture(options, sink),
      () => captures.delete(id),
    );
    captures.set(id, end);
    return new Response(body, {
      headers: {
        'content-type': 'application/octet-stream',
        'cache-control': 'no-store',
        [CAPTURE_ID_HEADER]: id,
      },
    });
  });
  // Unlike a reader that goes away, this loses nothing that is under way.
  app.delete('/capture/:id', (c) => {
    const end = captures.get(c.req.param('id'));
    if (!end) throw new WeftError('not_found', `capture ${c.req.param('id')} does not exist or has ended`);
    end();
    return c.json({});
  });

  return all;
}

async function parseAll(resources: readonly unknown[]): Promise<Resource[]> {
  const parsed: Resource[] = [];
  for await (const one of inTurns(resources, PARSED_PER_TURN, weightOf)) {
    const resource = parseResource(one);
    refuseUnknownLabels(resource.kind, resource.metadata.labels);
    parsed.push(resource);
  }
  return parsed;
}

async function read<S extends z.ZodType>(c: Context, schema: S): Promise<z.output<S>> {
  const text = await readBody(c.req.raw, BODY_LIMIT_BYTES);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new WeftError('invalid', `the request body is not JSON: ${(error as Error).message}`);
  }
  // A body can be large, and hardly any has that word, or an escape that may be a part of it.
  if (text.includes('__proto__') || text.includes('\\u')) refusePrototypeField(value);
  return validate(schema, value);
}

/** `?labelSelector=` selects, and `?watch` goes on with every change (resource-stream.ts). */
function resources(c: Context, sw: ApiTarget['sw'], which: Partial<ResourceName>): Response {
  const kind = parseKind(c.req.param('kind') ?? '');
  const selector = parseSelector(c.req.query('labelSelector') ?? '');
  const wants = ({ metadata }: Resource): boolean => matchesLabels(selector, metadata.labels);
  const isFollowing = c.req.query('watch') !== undefined;
  // One that is named has to exist.
  const there = isFollowing && which.name === undefined ? [] : sw.get(kind, which);
  if (!isFollowing) return c.json(there.filter(wants));
  const isOne = ({ metadata: { name, namespace } }: Resource): boolean =>
    (which.name === undefined || which.name === name) &&
    (!kind.isNamespaced ||
      namespace === (which.namespace ?? (which.name === undefined ? namespace : DEFAULT_NAMESPACE)));
  return events(
    resourceStream((onEvent, onEnd) =>
      sw.follow(kind, { wants: (resource) => isOne(resource) && wants(resource), onEvent, onEnd }),
    ),
  );
}

/** `?watch` goes on with every change (service-stream.ts). */
function services(c: Context, sw: ApiTarget['sw'], which: Partial<ResourceName>): Response {
  if (c.req.query('watch') === undefined) return array(c, sw.services(which));
  return events(serviceStream((signal) => sw.followServices(which, signal)));
}

/** Which flows, drops or events. */
function filterIn(c: Context): TalkFilter {
  const [from, to, endpoint] = [c.req.query('from'), c.req.query('to'), c.req.query('endpoint')];
  const [network, reason, since] = [c.req.query('network'), c.req.query('reason'), c.req.query('since')];
  return { from, to, endpoint, network, reason, since };
}

/** NAME of the path, and `?namespace=` of a namespaced kind. */
function nameIn(c: Context): ResourceName {
  return { name: c.req.param('name') ?? '', namespace: c.req.query('namespace') };
}

function failure(c: Context, { code, message, resource }: WeftError): Response {
  return c.json({ error: { code, message, resource } }, statusOf[code]);
}

function array(c: Context, items: AsyncIterable<unknown>): Response {
  return c.body(arrayStream(items), 200, { 'content-type': 'application/json' });
}

function events(body: ReadableStream<Uint8Array>): Response {
  return new Response(body, { headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' } });
}
