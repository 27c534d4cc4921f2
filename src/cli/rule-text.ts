/** What rules say about a service, in words. */
import type { ServiceReport, SpreadReport } from '../model/service-report.ts';
import type { Cell } from './print.ts';

/** A line for each thing that they say; nothing if there are none. */
export function ruleFields(service: ServiceReport): [string, Cell][] {
  const { destinationRule, maxConnections, portSpreads = {}, subsets = {}, backends, virtualService } = service;
  return [
    ...(destinationRule === undefined ? [] : [['Rule', `destinationrule ${destinationRule}`] as [string, Cell]]),
    ...(maxConnections === undefined ? [] : [['Limit', limitText(maxConnections)] as [string, Cell]]),
    ...Object.entries(portSpreads).map(([port, spread]): [string, Cell] => [`Port ${port}`, spreadText(spread)]),
    ...Object.entries(subsets).map(([name, subset]): [string, Cell] => {
      const ports = Object.entries(subset.portSpreads).map(([port, spread]) => `port ${port} ${spreadText(spread)}`);
      const { length } = backends.filter((one) => one.subsets?.includes(name));
      const count = `${length} backend${length === 1 ? '' : 's'}`;
      return [`Subset ${name}`, [`${count}, ${spreadText(subset)}`, ...ports].join('; ')];
    }),
    ...(virtualService === undefined ? [] : [['Routes', `virtualservice ${virtualService}`] as [string, Cell]]),
    ...routeFields(service),
  ];
}

function routeFields({ namespace, name, routes = [] }: ServiceReport): [string, Cell][] {
  return routes.map(({ matches, destinations }, at) => {
    const total = destinations.reduce((sum, { weight }) => sum + weight, 0);
    const ways = destinations.map(({ service, subset, port, weight, missing }) => {
      const isOwn = service === `${namespace}/${name}`;
      const to = [
        ...(isOwn && subset !== undefined ? [] : [service]),
        ...(subset === undefined ? [] : [`subset ${subset}`]),
        ...(port === undefined ? [] : [`port ${port}`]),
      ].join(' ');
      const share = destinations.length === 1 ? '' : ` ${((100 * weight) / total).toFixed(1).replace(/\.0$/, '')} %`;
      return `${to}${share}${missing === undefined ? '' : ` (refused: ${missing})`}`;
    });
    return [`Route ${at + 1}`, `${matches.join(' or ') || 'all'}: ${ways.join(', ')}`];
  });
}

function spreadText({ balancing, trafficDistribution, maxConnections }: SpreadReport): string {
  const near = trafficDistribution === 'none' ? '' : `, ${trafficDistribution}`;
  return `${balancing}${near}${maxConnections === undefined ? '' : `, ${limitText(maxConnections)}`}`;
}

function limitText(most: number): string {
  return `at most ${most} connection${most === 1 ? '' : 's'} a backend`;
}
