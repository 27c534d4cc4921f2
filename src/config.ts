/**
 * The configuration of the daemon: a YAML file, and the options of `weft up`, which win over the
 * file. The same schemas validate both. The result is complete, so this is the only place with
 * defaults.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { resolve } from 'node:path';
import * as z from 'zod';
import { flowCapOf, memoryBytes } from './memory.ts';
import { WeftError } from './error.ts';
import { addressValue, isIp4 } from './model/address.ts';
import { parseDocuments } from './model/document.ts';
import { peerKey } from './model/peer-key.ts';
import { secondOfFamily } from './model/records.ts';
import { storeField, storeOf, storeText, type StoreConfig } from './model/store-config.ts';
import { checkCredentials } from './store/etcd/credential-files.ts';
import { validate, type Locate } from './model/validate.ts';
import { cidr, ipAddress, name, quote, unicastAddress } from './model/value.ts';
import { VXLAN_L4_PORT } from './wire/vxlan.ts';

const between = (first: number, last: number, what: string) => {
  const message = `${what}, ${first} to ${last}`;
  return z.int({ error: message }).min(first, message).max(last, message);
};

const datapath = z.enum(['native', 'reference']);

const HOST_PORT = 'a port of 1 to 65535 with its protocol, like 53/udp or 8080/tcp';
const hostPort = z.string(`${HOST_PORT}, is expected`).transform((text, context) => {
  const [, port, protocol] = /^([1-9]\d{0,4})\/(tcp|udp)$/.exec(text) ?? [];
  if (port !== undefined && Number(port) <= 65_535) {
    return { protocol: protocol === 'udp' ? 'UDP' : 'TCP', port: Number(port) } as const;
  }
  context.addIssue({ code: 'custom', message: `${quote(text)} is not ${HOST_PORT}` });
  return z.NEVER;
});

const METRICS_ADDRESS = 'an address of this host and a TCP port of 1024 to 65535, like 127.0.0.1:9464 or "[::1]:9464"';
const metricsAddress = z.string(`${METRICS_ADDRESS}, is expected`).transform((text, context) => {
  const [, ip6, ip4, port] = /^(?:\[([^\]]+)\]|([\d.]+)):([1-9]\d{3,4})$/.exec(text) ?? [];
  const host = ipAddress.safeParse(ip6 ?? ip4);
  const isOfFamily = host.success && isIp4(addressValue(host.data)) === (ip4 !== undefined);
  if (isOfFamily && Number(port) >= 1024 && Number(port) <= 65_535) return { host: host.data, port: Number(port) };
  context.addIssue({ code: 'custom', message: `${quote(text)} is not ${METRICS_ADDRESS}` });
  return z.NEVER;
});

const GREATEST_STORM = 100_000_000;

/** The fields of the file. */
const fileSchema = z.strictObject({
  /** Name of this host. */
  host: name.optional(),
  /** This host's own address on the underlay. */
  underlay: unicastAddress.optional(),
  /** Underlay addresses of the other hosts. */
  peers: z.array(unicastAddress).optional(),
  /** The key of the probes between this host and every other one. */
  peerKey: peerKey.optional(),
  /** The keys of single ones, by their underlay addresses. */
  peerKeys: z.record(unicastAddress, peerKey).optional(),
  /** How other hosts are probed: a probe every interval, and how many intervals without one until a host is down. */
  liveness: z
    .strictObject({
      intervalMs: between(50, 10_000, 'milliseconds').default(300),
      multiplier: between(2, 50, 'a number of intervals').default(3),
    })
    .optional(),
  /** Where the state is kept. */
  store: storeField.optional(),
  /** Directory of what this host keeps, and of the embedded store. */
  state: z
    .string()
    .regex(/^\/[^\0]*$/, 'an absolute path is expected')
    .optional(),
  datapath: datapath.optional(),
  /** Threads of the native datapath; each has a queue of every port. */
  threads: between(1, 16, 'a number of threads').optional(),
  /** UDP port of the overlay, the same on every host. The daemon has dropped the right to bind ports below 1024. */
  vxlanPort: between(1024, 65_535, 'a UDP port').optional(),
  /** Flooded frames from one port of a container, a second and in one burst; 0: no limit. */
  stormLimit: between(0, GREATEST_STORM, 'frames a second').optional(),
  /** The same for the tunnel. */
  tunnelStormLimit: between(0, GREATEST_STORM, 'frames a second').optional(),
  /** Encapsulated packets have the DSCP of the inner packet; otherwise 0. */
  copyDscp: z.boolean('true or false').optional(),
  /** The most cached flows. */
  flowLimit: between(1, 4_194_304, 'a number of flows').optional(),
  /** The most connections that are remembered. */
  connections: between(1024, 4_194_304, 'a number of connections').optional(),
  /** The most learned MAC addresses of a port or a VTEP. */
  fdbQuota: between(1, 1_048_576, 'a number of MAC addresses').optional(),
  /** Time after which a learned MAC address that is no longer seen is removed. */
  fdbAgeingMs: between(1000, 86_400_000, 'milliseconds').optional(),
  /** Idle time after which a cached flow is evicted. */
  flowIdleMs: between(1000, 3_600_000, 'milliseconds').optional(),
  /** What containers of a network with an outside may reach on this host: nothing, everything, or these ports. */
  allowHost: z
    .union([z.boolean(), z.array(hostPort)], { error: 'true, false or a list of ports like 53/udp' })
    .optional(),
  /** Where services get their addresses, at most one subnet of each family. */
  serviceCidrs: z.array(cidr).min(1, 'give at least one subnet').optional(),
  /** Whether Docker finds weft as its network driver. */
  docker: z.boolean('true or false').optional(),
  /** Where metrics can be read over TCP. The daemon has dropped the right to bind ports below 1024. */
  metrics: metricsAddress.optional(),
});

export interface DaemonConfig {
  readonly host: string;
  /** If it is undefined and there are peers, the kernel decides which address reaches them. */
  readonly underlay: string | undefined;
  readonly peers: readonly string[];
  /** 32 bytes; undefined: only those of `peerKeys` have one. */
  readonly peerKey: Uint8Array | undefined;
  /** By underlay address, canonical. */
  readonly peerKeys: ReadonlyMap<string, Uint8Array>;
  readonly liveness: { readonly intervalMs: number; readonly multiplier: number };
  readonly store: StoreConfig;
  /** Absolute path. */
  readonly state: string;
  readonly datapath: 'native' | 'reference';
  readonly threads: number;
  readonly vxlanPort: number;
  readonly stormLimit: number;
  readonly tunnelStormLimit: number;
  readonly copyDscp: boolean;
  readonly flowLimit: number;
  readonly connections: number;
  readonly fdbQuota: number;
  readonly fdbAgeingMs: number;
  readonly flowIdleMs: number;
  readonly allowHost: boolean | readonly { readonly protocol: 'TCP' | 'UDP'; readonly port: number }[];
  /** At most one of each family; undefined: what the cluster has, or the default. */
  readonly serviceCidrs: readonly string[] | undefined;
  readonly docker: boolean;
  readonly metrics: { readonly host: string; readonly port: number } | undefined;
  /** Absolute paths of hooks of this host alone. */
  readonly hooks: readonly string[];
}

/** The options of `weft up`, as typed. */
export interface ConfigOptions {
  /** Path of the configuration file. */
  readonly config?: string;
  readonly host?: string;
  readonly underlay?: string;
  readonly peer?: readonly string[];
  readonly store?: string;
  readonly state?: string;
  readonly datapath?: string;
  readonly copyDscp?: boolean;
  readonly serviceCidr?: readonly string[];
  readonly hook?: readonly string[];
}

/**
 * The fields of the file, and hooks of this host alone by their paths, for a switch in a program. It serves no socket, so not
 * Docker's either.
 */
export type SwitchConfig = Omit<z.input<typeof fileSchema>, 'docker'> & { readonly hooks?: readonly string[] };

/** @throws WeftError, one line that names the place in the file or the option, the value, and what is accepted */
export function loadConfig(options: ConfigOptions): DaemonConfig {
  const { config } = options;
  const file = config === undefined ? { values: {}, locate: nowhere } : readConfig(config);
  return { ...completed(file, options), hooks: (options.hook ?? []).map((path) => readablePath(path, '--hook')) };
}

/** @throws WeftError, one line that names the field, the value, and what is accepted */
export function configFrom({ hooks = [], ...fields }: SwitchConfig): DaemonConfig {
  const values = validate(fileSchema.omit({ docker: true }), fields);
  const config = completed({ values, locate: nowhere }, {});
  return { ...config, hooks: hooks.map((path, at) => readablePath(path, `hooks[${at}]`)) };
}

/** All that has a default. */
function completed({ values: file, locate }: ConfigFile, options: ConfigOptions): Omit<DaemonConfig, 'hooks'> {
  const { host, underlay, peer, state } = options;
  const option = <S extends z.ZodType>(schema: S, field: string, value: unknown): z.output<S> | undefined =>
    value === undefined ? undefined : validate(schema, value, { field });

  const storeOption = option(storeText, '--store', options.store);
  const store = storeOption === undefined ? (file.store ?? 'embedded') : storeOf(storeOption, file.store);
  if (store !== 'embedded') {
    checkCredentials(store, (field) => `${locate(['store', ...field.split('.')], 'value')}store.${field}`);
  }
  if (state === '') throw new WeftError('invalid', '--state: "" is not accepted: a directory is expected');
  const given = peer?.map(peerOption);
  const chosen = {
    underlay: option(unicastAddress, '--underlay', underlay) ?? file.underlay,
    peers: given?.map(({ address }) => address) ?? file.peers ?? [],
  };
  const serviceCidrs = options.serviceCidr?.map((text) => validate(cidr, text, { field: '--service-cidr' }));
  checkServiceCidrs(serviceCidrs ?? file.serviceCidrs ?? [], (index) =>
    serviceCidrs ? '--service-cidr' : `${locate(['serviceCidrs', index], 'value')}serviceCidrs[${index}]`,
  );
  checkPeers(chosen, (index) => (peer ? '--peer' : `${locate(['peers', index], 'value')}peers[${index}]`));
  return {
    ...chosen,
    host: option(name, '--host', host) ?? file.host ?? ownName(),
    peerKey: file.peerKey,
    peerKeys: new Map([...Object.entries(file.peerKeys ?? {}), ...(given ?? []).flatMap(keyEntry)]),
    liveness: file.liveness ?? { intervalMs: 300, multiplier: 3 },
    store,
    state: state === undefined ? (file.state ?? '/var/lib/weft') : resolve(state),
    datapath: option(datapath, '--datapath', options.datapath) ?? file.datapath ?? 'native',
    copyDscp: options.copyDscp ?? file.copyDscp ?? false,
    vxlanPort: file.vxlanPort ?? VXLAN_L4_PORT,
    stormLimit: file.stormLimit ?? 1000,
    tunnelStormLimit: file.tunnelStormLimit ?? 10_000,
    threads: file.threads ?? Math.min(4, Math.max(1, Math.floor(availableParallelism() / 2))),
    flowLimit: file.flowLimit ?? flowCapOf(memoryBytes()),
    connections: file.connections ?? 262_144,
    fdbQuota: file.fdbQuota ?? 2048,
    fdbAgeingMs: file.fdbAgeingMs ?? 300_000,
    flowIdleMs: file.flowIdleMs ?? 10_000,
    allowHost: file.allowHost ?? false,
    serviceCidrs: serviceCidrs ?? file.serviceCidrs,
    docker: file.docker ?? false,
    metrics: file.metrics,
  };
}

/** The absolute path of a file that can be read. */
function readablePath(path: string, field: string): string {
  try {
    readFileSync(path);
  } catch (error) {
    const why = (error as Error).message;
    throw new WeftError('invalid', `${field}: ${quote(path)} cannot be read: ${why}`, { cause: error });
  }
  return resolve(path);
}

interface PeerOption {
  readonly address: string;
  readonly key: Uint8Array | undefined;
}

/** `ADDRESS[,KEY]` */
function peerOption(text: string): PeerOption {
  const [, before = '', after] = /^([^,]*)(?:,(.*))?$/s.exec(text) ?? [];
  const address = validate(unicastAddress, before, { field: '--peer' });
  return { address, key: after === undefined ? undefined : validate(peerKey, after, { field: '--peer' }) };
}

function keyEntry({ address, key }: PeerOption): [string, Uint8Array][] {
  return key ? [[address, key]] : [];
}

interface ConfigFile {
  readonly values: Partial<z.output<typeof fileSchema>>;
  readonly locate: Locate;
}

/** The place of what is in no file. */
const nowhere = (): string => '';

function readConfig(path: string): ConfigFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new WeftError('invalid', `--config: ${quote(path)} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const [document, second] = parseDocuments(text, path);
  if (second) throw new WeftError('invalid', `${second.locate([], 'value')}a configuration is one document`);
  const { value, locate } = document ?? {
    value: {},
    locate: () => `${path}: `,
  };
  return { values: validate(fileSchema, value, { locate }), locate };
}

function checkPeers(
  { underlay, peers }: Pick<DaemonConfig, 'underlay' | 'peers'>,
  place: (index: number) => string,
): void {
  for (const [index, peer] of peers.entries()) {
    const refuse = (why: string): never => {
      throw new WeftError('invalid', `${place(index)}: ${quote(peer)} ${why}`);
    };
    if (peer === underlay) refuse('is the address of this host itself (underlay): a peer is another host');
    if (peers.indexOf(peer) < index) refuse('is given twice');
    const reference = underlay ?? peers[0] ?? peer;
    if (isIp4(addressValue(peer)) !== isIp4(addressValue(reference))) {
      const whose = underlay === undefined ? 'the first peer' : 'the underlay';
      refuse(`is not of the family of ${whose}, ${reference}: one underlay is IPv4 or IPv6`);
    }
  }
}

function checkServiceCidrs(cidrs: readonly string[], place: (index: number) => string): void {
  const second = secondOfFamily(cidrs);
  if (second) throw new WeftError('invalid', `${place(second.index)}: ${second.why}`);
}

/** The machine's host name up to the first dot, made valid. */
function ownName(): string {
  const [first = ''] = hostname().toLowerCase().split('.');
  const made = first
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .slice(0, 63)
    .replaceAll(/^-+|-+$/g, '');
  if (made === '')
    throw new WeftError('invalid', `--host is missing: ${quote(hostname())} cannot be made a name of this host`);
  return made;
}
