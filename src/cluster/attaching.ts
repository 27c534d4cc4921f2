/** What `weft attach` does. */
import { endpointKind } from '../model/kinds/endpoint.ts';
import type { EndpointReport } from '../model/report.ts';
import { idOf } from '../model/resource.ts';
import { attachment, type AttachOptions } from './attachment.ts';
import type { Cluster } from './cluster.ts';
import type { Endpoint } from './endpoint.ts';
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
export async function attach(
  { cluster, endpoints, networks, after }: AttachingEnvironment,
  options: AttachOptions,
): Promise<EndpointReport> {
  const name = idOf(options);
  let before: Endpoint | undefined;
  const told = (): EndpointReport => {
    const failure = endpoints.failure(name);
    if (failure && before?.state === 'detached') throw failure;
    const report = endpoints.report(endpoints.get(name));
    return options.move && !before ? { ...report, wasNowhere: true } : report;
  };
  // On one machine, its interface may be in the way until its old host has let go.
  const mayBeInTheWay = (): boolean => options.move === true && endpoints.find(name)?.state === 'waiting';
  let report = await cluster.change(async () => {
    // A misspelled network is reported before anything else that is wrong.
    networks.get(options.network);
    before = endpoints.find(name);
    // Declared anew, it would lose the addresses of that record.
    const refusal = before ? undefined : cluster.refused.failure(endpointKind, name);
    if (refusal) throw refusal;
    await cluster.applyOrTakeBack(attachment(options, before?.resource), { moves: options.move ? [name] : [] });
    return mayBeInTheWay() ? undefined : told();
  });
  // Everything else goes on meanwhile.
  for (let left = MOVE_ATTEMPTS; !report; left--) {
    await new Promise<void>((resolve) => after(MOVE_RETRY_MS, resolve));
    report = await cluster.serial.run(async () => {
      await endpoints.retry([name]);
      return left > 1 && mayBeInTheWay() ? undefined : told();
    });
  }
  return report;
}
