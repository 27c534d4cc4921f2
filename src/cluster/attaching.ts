/** What `weft attach` does. */
import { WeftError } from '../error.ts';
import { endpointKind } from '../model/kinds/endpoint.ts';
import type { EndpointReport } from '../model/report.ts';
import { idOf } from '../model/resource.ts';
import { attachment, type AttachOptions } from './attachment.ts';
import { isHolder, type Endpoint } from './endpoint.ts';
import { hold, withoutHolders, type HeldAddressesEnvironment, type HoldOptions } from './held-addresses.ts';
import { isStopping } from './serial.ts';

export interface AttachRequest extends Omit<AttachOptions, 'name'> {
  /** By default that of the namespace, which is the last part of `netns`; of one that only holds addresses, a new one. */
  readonly name?: string;
  /** True: it only holds an address for an endpoint to come, and is in no namespace (`held-addresses.ts`). */
  readonly hold?: boolean;
}

export interface AttachingEnvironment extends HeldAddressesEnvironment {
  /** Does something later; returns how to cancel that. */
  readonly after: (delayMs: number, work: () => void) => () => void;
}

/** How often, and how long after each other, it is tried to create the interface of an endpoint that moves. */
const MOVE_ATTEMPTS = 100;
const MOVE_RETRY_MS = 20;

/**
 * Attaches a container. Attaching it again changes what `options` name, and nothing else.
 * @throws WeftError also if it cannot be put into force now; a new endpoint is not declared then. Also if the store has one of
 * that name that is not in force here because this host does not accept it
 */
export async function attach(
  environment: AttachingEnvironment,
  { hold: isForLater, ...request }: AttachRequest,
): Promise<EndpointReport> {
  if (isForLater) return hold(environment, ofHolder(request));
  const { cluster, endpoints, networks, after } = environment;
  const options: AttachOptions = { ...request, name: request.name ?? nameOfNetns(request) };
  const name = idOf(options);
  let before: Endpoint | undefined;
  const told = (): EndpointReport => {
    const failure = endpoints.failure(name);
    if (failure && before?.state === 'detached') throw failure;
    const report = endpoints.report(endpoints.get(name));
    if (options.move) return before ? report : { ...report, wasNowhere: true };
    return before?.host === undefined ? report : { ...report, takenFrom: before.host };
  };
  // On one machine, its interface may be in the way until its old host has let go.
  const mayBeInTheWay = (): boolean => options.move === true && endpoints.find(name)?.state === 'waiting';
  let report = await cluster.change(async () => {
    // A misspelled network is reported before anything else that is wrong.
    networks.get(options.network);
    const known = endpoints.find(name);
    const holder = known && isHolder(known.resource) ? known : undefined;
    before = holder ? undefined : known;
    // Declared anew, it would lose the addresses of that record.
    const refusal = known ? undefined : cluster.refused.failure(endpointKind, name);
    if (refusal) throw refusal;
    const resource = attachment({ ...(holder && { ip: holder.addresses }), ...options }, before?.resource);
    await withoutHolders(environment, resource, () =>
      cluster.applyOrTakeBack(resource, { moves: options.move ? [name] : [] }),
    );
    return mayBeInTheWay() ? undefined : told();
  });
  // Everything else goes on meanwhile.
  for (let left = MOVE_ATTEMPTS; !report; left--) {
    await new Promise<void>((resolve) => after(MOVE_RETRY_MS, resolve));
    const retried = cluster.serial.run(async () => {
      await endpoints.retry([name]);
      return left > 1 && mayBeInTheWay() ? undefined : told();
    });
    // It has moved by now, and the next start goes on with it.
    report = await retried.catch((error: unknown) => {
      if (!isStopping(error)) throw error;
      return told();
    });
  }
  return report;
}

/** @throws WeftError('invalid') about what an endpoint without a namespace cannot have */
function ofHolder({ name, namespace, network, ip, ...others }: Omit<AttachRequest, 'hold'>): HoldOptions {
  const [field] = Object.entries(others).find(([, value]) => value !== undefined) ?? [];
  if (field !== undefined) {
    throw new WeftError(
      'invalid',
      `${field}: what only holds an address has a name, a namespace, a network and ip, and nothing else`,
    );
  }
  return { network, name, ...(namespace !== undefined && { namespace }), ...(ip && { ip }) };
}

/** @throws WeftError('invalid') */
function nameOfNetns({ netns }: Pick<AttachRequest, 'netns'>): string {
  const [, name] = /^(?:(?:\/var)?\/run\/netns\/)?([^/]+)$/.exec(netns ?? '') ?? [];
  if (name !== undefined) return name;
  throw new WeftError(
    'invalid',
    'name is missing: only the name of a network namespace (netns) says how an endpoint is called',
  );
}
