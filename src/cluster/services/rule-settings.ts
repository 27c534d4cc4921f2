/**
 * What a DestinationRule says about a service, as the tables have it.
 *
 * What is said for one port takes the place of what is said for all of them, and what it leaves out is as if there were no
 * rule. What is said of a subset goes before what is said of the service, setting by setting.
 */
import { durationMs } from '../../model/duration.ts';
import {
  ZONE_LABEL,
  type DestinationRuleResource,
  type LoadBalancerSpec,
  type OutlierDetectionSpec,
  type TrafficPolicySpec,
} from '../../model/kinds/destination-rule.ts';
import type { OutlierSettings, PortSpreads, Service, Spread, Subset } from '../../table/service.ts';
import { matches, type Labels } from './label-index.ts';

type Policy = Pick<TrafficPolicySpec, 'loadBalancer' | 'connectionPool'>;

/** @param own what the Service says by itself */
export function ruleSettings(
  rule: DestinationRuleResource | undefined,
  own: Spread,
): Pick<Service, keyof Spread | 'rule' | 'portSpreads' | 'subsets' | 'outlier'> {
  if (!rule) return { ...own, rule: undefined, portSpreads: none, subsets: [], outlier: undefined };
  const { metadata, spec } = rule;
  const { trafficPolicy = {} } = spec;
  const spread = spreadWith(trafficPolicy, own);
  const ports = new Map(byPort(trafficPolicy).map(([port, policy]) => [port, spreadWith(policy, own)]));
  const subsets = spec.subsets.map(({ name, trafficPolicy: policy = {} }): Subset => {
    const single = new Map(byPort(policy));
    const numbers = [...new Set([...ports.keys(), ...single.keys()])];
    const portSpreads = new Map(
      numbers.map((port) => [port, spreadWith(single.get(port) ?? policy, ports.get(port) ?? spread)]),
    );
    return { name, ...spreadWith(policy, spread), portSpreads };
  });
  return {
    ...spread,
    rule: `${metadata.namespace}/${metadata.name}`,
    portSpreads: ports,
    subsets,
    outlier: trafficPolicy.outlierDetection && outlierSettings(trafficPolicy.outlierDetection),
  };
}

/** The subsets that a backend with these labels is in, in the order of the rule. */
export function subsetsOf(rule: DestinationRuleResource | undefined, labels: Labels): readonly string[] {
  if (!rule || rule.spec.subsets.length === 0) return noSubsets;
  return rule.spec.subsets.filter((subset) => matches(subset.labels, labels)).map(({ name }) => name);
}

const none: PortSpreads = new Map();
/** One array for the backends of all services without a rule. */
const noSubsets: readonly string[] = [];

function byPort({ portLevelSettings = [] }: TrafficPolicySpec): [number, Policy][] {
  return portLevelSettings.map((policy) => [policy.port.number, policy]);
}

function spreadWith(
  { loadBalancer, connectionPool }: Policy,
  { balancing, distribution, maxConnections }: Spread,
): Spread {
  return {
    balancing: (loadBalancer && methodOf(loadBalancer)) ?? balancing,
    distribution: (loadBalancer && distributionOf(loadBalancer)) ?? distribution,
    maxConnections: connectionPool?.tcp.maxConnections ?? maxConnections,
  };
}

const methods = {
  ROUND_ROBIN: 'round-robin',
  LEAST_REQUEST: 'least-connections',
  RANDOM: 'random',
  UNSPECIFIED: undefined,
} as const;

function methodOf({ simple, consistentHash }: LoadBalancerSpec): Spread['balancing'] | undefined {
  if (consistentHash) return 'source-hash';
  return simple && methods[simple];
}

function distributionOf({ localityLbSetting }: LoadBalancerSpec): Spread['distribution'] | undefined {
  if (!localityLbSetting) return undefined;
  const { enabled, failoverPriority: [first] = [ZONE_LABEL] } = localityLbSetting;
  if (!enabled) return 'none';
  return first === ZONE_LABEL ? 'same-zone' : 'same-node';
}

function outlierSettings(spec: OutlierDetectionSpec): OutlierSettings {
  return {
    failures: spec.consecutiveLocalOriginFailures,
    intervalMs: durationMs(spec.interval),
    baseEjectionMs: durationMs(spec.baseEjectionTime),
    mostEjectedPercent: spec.maxEjectionPercent,
    leastHealthyPercent: spec.minHealthPercent,
  };
}
