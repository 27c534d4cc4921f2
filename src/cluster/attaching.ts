/** What `weft attach` does. */
import { endpointKind } from '../model/kinds/endpoint.ts';
import type { EndpointReport } from '../model/report.ts';
import { idOf } from '../model/resource.ts';
import { attachment, type AttachOptions } from './attachment.ts';
import type { Cluster } from './cluster.ts';
import type { Endpoints } from './endpoints.ts';
import type { Networks } from './networks.ts';

export interface AttachingEnvironment {
  readonly cluster: Cluster;
  readonly endpoints: Endpoints;
  readonly networks: Networks;
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
export function attach(
  { cluster, endpoints, networks, after }: AttachingEnvironment,
  options: AttachOptions,
): Promise<EndpointReport> {
  return cluster.change(async () => {
    // A misspelled network is reported before anything else that is wrong.
    networks.get(options.network);
    const name = idOf(options);
    const before = endpoints.find(name);
    // Declared anew, it would lose the addresses of that record.
    const refusal = before ? undefined : cluster.refused.failure(endpointKind, name);
    if (refusal) throw refusal;
    await cluster.applyOrTakeBack(attachment(options, before?.resource), { moves: options.move ? [name] : [] });
    // On one machine, its interface may be in the way until its old host has let go.
    for (let left = MOVE_ATTEMPTS; options.move && left > 0 && endpoints.find(name)?.state === 'waiting'; left--) {
      await new Promise<void>((resolve) => after(MOVE_RETRY_MS, resolve));
      await endpoints.retry([name]);
    }
    const failure = endpoints.failure(name);
    if (failure && before?.state === 'detached') throw failure;
    const report = endpoints.report(endpoints.get(name));
    return options.move && !before ? { ...report, wasNowhere: true } : report;
  });
}
