/** What a runtime says in environment variables (CNI specification 1.1, section 2). */
import { interfaceName } from '../../model/kinds/endpoint.ts';
import { quote } from '../../model/value.ts';
import { CNI_CODES, CniFailure } from './failure.ts';

export const CNI_COMMANDS = ['ADD', 'CHECK', 'DEL', 'GC', 'STATUS'] as const;
export type CniCommand = (typeof CNI_COMMANDS)[number];

export interface CniEnvironment {
  readonly command: CniCommand;
  /** Empty where the command does not need it; so for the next two. */
  readonly containerId: string;
  readonly netns: string;
  readonly ifname: string;
  readonly args: CniArgs;
}

/** `CNI_ARGS`, which older runtimes use for what newer ones write into the configuration. */
export interface CniArgs {
  readonly ips: readonly string[];
  readonly mac?: string;
  readonly podName?: string;
  readonly podNamespace?: string;
}

/** Those that the commands cannot do without. */
const NEEDED: Readonly<Record<CniCommand, readonly string[]>> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
  // A namespace that is gone has no path.
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME'],
  GC: [],
  STATUS: [],
};

const CONTAINER_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** @throws CniFailure */
export function readEnvironment(variables: Readonly<Record<string, string>>): CniEnvironment {
  const command = CNI_COMMANDS.find((one) => one === variables['CNI_COMMAND']);
  if (command === undefined) {
    const given = variables['CNI_COMMAND']
      ? `CNI_COMMAND ${quote(variables['CNI_COMMAND'])} is not known`
      : 'CNI_COMMAND is missing';
    throw new CniFailure(CNI_CODES.environment, `${given}: accepted are ${CNI_COMMANDS.join(', ')}, VERSION`);
  }
  const missing = NEEDED[command].filter((name) => !variables[name]);
  if (missing.length > 0) {
    throw new CniFailure(CNI_CODES.environment, `missing in the environment: ${missing.join(', ')}`);
  }
  const {
    CNI_CONTAINERID: containerId = '',
    CNI_NETNS: netns = '',
    CNI_IFNAME: ifname = '',
    CNI_ARGS = '',
  } = variables;
  if (containerId && !CONTAINER_ID.test(containerId)) {
    throw new CniFailure(
      CNI_CODES.environment,
      `CNI_CONTAINERID ${quote(containerId)} is not accepted: letters, digits, "_", "." and "-", a letter or digit first`,
    );
  }
  const { error } = interfaceName.safeParse(ifname);
  if (ifname && error) {
    throw new CniFailure(
      CNI_CODES.environment,
      `CNI_IFNAME: ${quote(ifname)} is not accepted: ${error.issues[0]!.message}`,
    );
  }
  return { command, containerId, netns, ifname, args: readArgs(CNI_ARGS) };
}

/** `IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.0.0.5` */
function readArgs(text: string): CniArgs {
  const pairs = text.split(';').flatMap((pair): [string, string][] => {
    if (pair.trim() === '') return [];
    const at = pair.indexOf('=');
    if (at <= 0) throw new CniFailure(CNI_CODES.environment, `CNI_ARGS: ${quote(pair)} is not KEY=VALUE`);
    return [[pair.slice(0, at).trim(), pair.slice(at + 1)]];
  });
  const args = new Map(pairs);
  const known = ['IgnoreUnknown', 'IP', 'MAC', 'K8S_POD_NAME', 'K8S_POD_NAMESPACE'];
  const unknown = [...args.keys()].filter((key) => !known.includes(key));
  if (unknown.length > 0 && !['1', 'true'].includes((args.get('IgnoreUnknown') ?? '').toLowerCase())) {
    throw new CniFailure(
      CNI_CODES.environment,
      `CNI_ARGS: ${unknown.join(', ')} not known: accepted are ${known.join(', ')}, or all with IgnoreUnknown=1`,
    );
  }
  const given = (key: string): string | undefined => args.get(key) || undefined;
  const [mac, podName, podNamespace] = [given('MAC'), given('K8S_POD_NAME'), given('K8S_POD_NAMESPACE')];
  return {
    ips: (given('IP') ?? '').split(',').flatMap((ip) => (ip.trim() ? [ip.trim().split('/')[0]!] : [])),
    ...(mac !== undefined && { mac }),
    ...(podName !== undefined && { podName }),
    ...(podNamespace !== undefined && { podNamespace }),
  };
}
