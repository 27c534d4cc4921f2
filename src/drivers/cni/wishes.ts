/**
 * What runtimes may ask for an interface, as options of an attachment. Where it is said several times, what is newer counts:
 * `runtimeConfig`, then `args.cni`, then `CNI_ARGS`.
 */
import type { AttachOptions } from '../../cluster/attachment.ts';
import type { PublishOptions } from '../../model/publish.ts';
import { GREATEST_BURST_BYTES, LEAST_BURST_BYTES } from '../../model/rate.ts';
import { asName } from '../name.ts';
import type { CniConfiguration, RuntimeConfig } from './configuration.ts';
import type { CniEnvironment } from './environment.ts';

export type Wishes = Pick<AttachOptions, 'ip' | 'mac' | 'labels' | 'publish' | 'rateLimit' | 'aliases'>;

/** @param name that the endpoint gets: its container's may differ */
export function wishesOf({ args }: CniEnvironment, configuration: CniConfiguration, name: string): Wishes {
  const { runtimeConfig = {}, args: { cni = {} } = {} } = configuration;
  const ip = firstOf(runtimeConfig.ips, cni.ips, args.ips);
  const mac = runtimeConfig.mac || cni.mac || args.mac;
  const labels = {
    ...configuration['weft.dev/labels'],
    ...Object.fromEntries((cni.labels ?? []).map(({ key, value }) => [key, value])),
  };
  const publish = publishedOf(runtimeConfig.portMappings ?? []);
  const rateLimit = limitOf(runtimeConfig.bandwidth ?? {});
  const aliases = aliasesOf(configuration, args.podName, name);
  return {
    labels,
    ...(ip && { ip }),
    ...(mac && { mac }),
    ...(publish.length > 0 && { publish }),
    ...(rateLimit && { rateLimit }),
    ...(aliases.length > 0 && { aliases }),
  };
}

/** Each once: podman names an address twice for a container that was connected with it and is reloaded. */
function firstOf(...lists: readonly (readonly string[] | null | undefined)[]): readonly string[] | undefined {
  const first = lists.find((list) => list && list.length > 0);
  return first ? [...new Set(first)] : undefined;
}

/** Without those that have no port of the host, which runtimes list, too. */
function publishedOf(mappings: NonNullable<RuntimeConfig['portMappings']>): PublishOptions[] {
  return mappings
    .filter(({ hostPort }) => hostPort > 0)
    .map(({ hostPort, containerPort, protocol, hostIP }) => ({
      hostPort,
      port: containerPort,
      protocol,
      ...(hostIP && { hostIP }),
    }));
}

/** CNI's ingress is into the container; a port's is into the switch. Its burst is in bits, and is that of both directions here. */
function limitOf(bandwidth: NonNullable<RuntimeConfig['bandwidth']>): Wishes['rateLimit'] {
  const { ingressRate = 0, ingressBurst = 0, egressRate = 0, egressBurst = 0 } = bandwidth;
  if (ingressRate === 0 && egressRate === 0) return undefined;
  const burst = Math.ceil(Math.max(ingressRate && ingressBurst, egressRate && egressBurst) / 8);
  return {
    ...(ingressRate > 0 && { egress: `${Math.round(ingressRate)}bit` }),
    ...(egressRate > 0 && { ingress: `${Math.round(egressRate)}bit` }),
    ...(burst > 0 && { burst: `${Math.min(Math.max(burst, LEAST_BURST_BYTES), GREATEST_BURST_BYTES)}b` }),
  };
}

/** Also the name of the container, where its endpoint has another one. */
function aliasesOf(
  { name: network, runtimeConfig }: CniConfiguration,
  container: string | undefined,
  own: string,
): string[] {
  const told = [...(runtimeConfig?.aliases?.[network] ?? []), ...(container === undefined ? [] : [container])];
  return [...new Set(told.map(asName))].filter((alias) => alias !== '' && alias !== own);
}
