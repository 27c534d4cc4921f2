/**
 * etcd for tests: Debian's etcd-server with one or more members, on loopback or in namespaces of a lab. All files are in
 * the lab's directory, and everything ends with the lab.
 *
 *   const etcd = await startEtcd(lab, { members: 3 });
 *   etcd.url                          etcd://127.1.2.0:2379,127.1.2.1:2379,127.1.2.2:2379
 *   await etcd.members[0].kill();     kill -9
 *   await etcd.members[0].start();
 *   const file = await etcd.snapshot();
 *   await etcd.restore(file);         all members, to an older revision
 *   await etcd.wipe();                all members start again with nothing
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { certificates, type Certificates } from './certificates.ts';
import type { Lab, Namespace } from './lab.ts';
import { isStopped, run, until, type Background } from './process.ts';

/** Where a member listens. */
export interface EtcdPlace {
  /** Without it, the namespace of the test. */
  readonly namespace?: Namespace;
  /** IPv4 or IPv6. */
  readonly address: string;
}

export interface EtcdOptions {
  /** How many, on addresses of the loopback that only this process uses; or where. One by default. */
  readonly members?: number | readonly EtcdPlace[];
  /** Where etcdctl runs; by default where the first member does. */
  readonly from?: Namespace;
  /** Clients need a certificate. */
  readonly tls?: boolean;
  /** Makes these users, with their passwords, and requires one. `root` must be among them. */
  readonly users?: Readonly<Record<string, string>>;
  /** Further options of etcd. */
  readonly options?: readonly string[];
}

const CLIENT_PORT = 2379;
const PEER_PORT = 2380;
/** What a member says when it is part of the cluster. */
const READY = 'serving client traffic';
/** One member needs no time to hear from others. */
const ALONE = ['--heartbeat-interval', '20', '--election-timeout', '200'];
let clusters = 0;

export async function startEtcd(lab: Lab, options: EtcdOptions = {}): Promise<Etcd> {
  const etcd = new Etcd(lab, options);
  await etcd.start();
  return etcd;
}

export class EtcdMember {
  readonly name: string;
  readonly address: string;
  readonly namespace: Namespace | undefined;
  readonly directory: string;
  /** `10.0.0.1:2379` or `[fd00::1]:2379`. */
  readonly clientAddress: string;
  readonly peerUrl: string;
  readonly #launch: (member: EtcdMember) => Background;
  #process: Background | undefined;

  /** Use `startEtcd`. */
  constructor(
    name: string,
    { address, namespace }: EtcdPlace,
    ports: { readonly client: number; readonly peer: number },
    directory: string,
    launch: (member: EtcdMember) => Background,
  ) {
    this.name = name;
    this.address = address;
    this.namespace = namespace;
    this.directory = directory;
    const host = address.includes(':') ? `[${address}]` : address;
    this.clientAddress = `${host}:${ports.client}`;
    this.peerUrl = `http://${host}:${ports.peer}`;
    this.#launch = launch;
  }

  get pid(): number {
    if (!this.#process) throw new Error(`${this.name} does not run`);
    return this.#process.pid;
  }

  get isRunning(): boolean {
    return this.#process?.isRunning ?? false;
  }

  /** @param wait until it serves clients, which needs a majority of the members */
  async start({ wait = true }: { readonly wait?: boolean } = {}): Promise<void> {
    if (this.isRunning) throw new Error(`${this.name} is running`);
    this.#process = this.#launch(this);
    if (wait) await this.#process.says(READY);
  }

  /** Ends it without a word, as a power failure does for a process. */
  async kill(): Promise<void> {
    await this.#process?.stop('SIGKILL');
  }

  /** Ends it in order. */
  async stop(): Promise<void> {
    await this.#process?.stop('SIGTERM');
  }

  /** From now on it is silent, with its connections open. */
  pause(): void {
    if (!this.#process) return;
    this.#process.signal('SIGSTOP');
    // A thread that runs on another processor goes on until that is interrupted.
    while (!isStopped(this.#process.pid));
  }

  resume(): void {
    this.#process?.signal('SIGCONT');
  }
}

export class Etcd {
  readonly members: readonly EtcdMember[];
  readonly certificates: Certificates | undefined;
  readonly directory: string;
  readonly #lab: Lab;
  readonly #options: EtcdOptions;
  #tokens = 0;
  #snapshots = 0;
  #isGuarded = false;

  /** Use `startEtcd`. */
  constructor(lab: Lab, options: EtcdOptions) {
    const count = clusters++;
    this.#lab = lab;
    this.#options = options;
    this.directory = join(lab.directory, `etcd-${count}`);
    mkdirSync(this.directory);
    const { members = 1 } = options;
    const places = typeof members === 'number' ? loopback(members) : members;
    const ports = { client: CLIENT_PORT + 2 * count, peer: PEER_PORT + 2 * count };
    this.members = places.map(
      (place, at) => new EtcdMember(`m${at}`, place, ports, join(this.directory, `m${at}`), (one) => this.#launch(one)),
    );
    if (options.tls)
      this.certificates = certificates(
        this.directory,
        places.map(({ address }) => address),
      );
  }

  /** For `--store`. */
  get url(): string {
    return `etcd://${this.members.map(({ clientAddress }) => clientAddress).join(',')}`;
  }

  /** Starts all members that do not run, and waits until they serve clients. */
  async start(): Promise<void> {
    await Promise.all(this.members.filter(({ isRunning }) => !isRunning).map((member) => member.start()));
    const { users } = this.#options;
    if (!users || this.#isGuarded) return;
    for (const [name, password] of Object.entries(users)) {
      await this.ctl(['user', 'add', `${name}:${password}`]);
      if (name !== 'root') {
        await this.ctl(['role', 'add', name]);
        await this.ctl(['role', 'grant-permission', name, '--prefix=true', 'readwrite', 'weft/']);
      }
      await this.ctl(['user', 'grant-role', name, name]);
    }
    await this.ctl(['auth', 'enable']);
    this.#isGuarded = true;
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.stop()));
  }

  /** All at once, with kill -9. */
  async kill(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
  }

  /** Runs etcdctl; returns what it prints. @param of asked instead of all members @param input its standard input */
  ctl(words: readonly string[], of: readonly EtcdMember[] = this.members, input = ''): Promise<string> {
    const scheme = this.certificates ? 'https' : 'http';
    const command = ['etcdctl', '--endpoints', of.map((one) => `${scheme}://${one.clientAddress}`).join(',')];
    if (this.certificates) {
      const { ca, client } = this.certificates;
      command.push('--cacert', ca, '--cert', client.certificate, '--key', client.key);
    }
    const { users } = this.#options;
    if (users && this.#isGuarded) command.push('--user', `root:${users['root']}`);
    command.push(...words);
    const namespace = this.#options.from ?? of[0]!.namespace;
    return run(namespace ? namespace.inside(command) : command, { input });
  }

  /** The member that leads. */
  async leader(): Promise<EtcdMember> {
    return until(
      async () => {
        for (const member of this.members.filter(({ isRunning }) => isRunning)) {
          const [{ Status }] = JSON.parse(await this.ctl(['endpoint', 'status', '-w', 'json'], [member])) as [
            { Status: { leader?: number; header: { member_id: number } } },
          ];
          if (Status.leader === Status.header.member_id) return member;
        }
        return undefined;
      },
      { what: 'a leader' },
    );
  }

  async revision(): Promise<number> {
    const { header } = JSON.parse(await this.ctl(['get', 'none', '-w', 'json'])) as { header: { revision: number } };
    return header.revision;
  }

  /** Makes etcd forget everything before its present revision, which is returned. */
  async compact(): Promise<number> {
    const revision = await this.revision();
    await this.ctl(['compact', String(revision)]);
    return revision;
  }

  /** Saves what is stored now. @returns the file @throws if no member runs */
  async snapshot(): Promise<string> {
    const file = join(this.directory, `snapshot-${this.#snapshots++}`);
    const running = this.members.find(({ isRunning }) => isRunning);
    if (!running) throw new Error('no member of etcd runs');
    await this.ctl(['snapshot', 'save', file], [running]);
    return file;
  }

  /**
   * Makes all members begin again with a snapshot. A token in the cluster's id says whether it is recognized as another.
   * @param sameId the cluster keeps its id, as it does if the operator gives etcd the same options
   */
  async restore(file: string, { sameId = false }: { readonly sameId?: boolean } = {}): Promise<void> {
    await this.kill();
    if (!sameId) this.#tokens++;
    for (const member of this.members) {
      rmSync(member.directory, { recursive: true });
      const cluster = [
        '--name',
        member.name,
        '--initial-advertise-peer-urls',
        member.peerUrl,
        ...this.#clusterOptions(),
      ];
      await run(['etcdctl', 'snapshot', 'restore', file, '--data-dir', member.directory, ...cluster]);
    }
    await this.start();
  }

  /** Makes all members begin again with nothing. */
  async wipe({ sameId = false }: { readonly sameId?: boolean } = {}): Promise<void> {
    await this.kill();
    if (!sameId) this.#tokens++;
    this.#isGuarded = false;
    for (const { directory } of this.members) rmSync(directory, { recursive: true });
    await this.start();
  }

  #clusterOptions(): string[] {
    const cluster = this.members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(',');
    return ['--initial-cluster', cluster, '--initial-cluster-token', `weft-${this.#tokens}`];
  }

  #launch(member: EtcdMember): Background {
    const url = `${this.certificates ? 'https' : 'http'}://${member.clientAddress}`;
    const command = [
      ...['etcd', '--name', member.name, '--data-dir', member.directory],
      ...['--listen-client-urls', url, '--advertise-client-urls', url],
      ...['--listen-peer-urls', member.peerUrl, '--initial-advertise-peer-urls', member.peerUrl],
      ...this.#clusterOptions(),
      ...['--logger', 'zap', '--log-outputs', 'stderr', '--log-level', 'info'],
      ...(this.members.length === 1 ? ALONE : []),
    ];
    if (this.certificates) {
      const { ca, server } = this.certificates;
      command.push('--client-cert-auth', '--trusted-ca-file', ca);
      command.push('--cert-file', server.certificate, '--key-file', server.key);
    }
    // The last one of an option's values counts.
    command.push(...(this.#options.options ?? []));
    return member.namespace ? member.namespace.start(command) : this.#lab.start(command);
  }
}

/** Addresses of the loopback that belong to this process: 22 bits of its number, and four for each. */
function loopback(count: number): EtcdPlace[] {
  if (count > 4) throw new Error('a process has four addresses for members');
  const bits = process.pid * 4;
  return Array.from({ length: count }, (_, at) => ({
    address: `127.${(bits >> 16) & 255}.${(bits >> 8) & 255}.${(bits & 255) + at}`,
  }));
}
