/** `weft up`: the daemon, in the foreground, logging to stderr as JSON lines. `run-daemon.ts` has its life. */
import type { Command } from 'commander';
import type * as daemonCode from './daemon.ts';
import { collect, globals, verb } from './verb.ts';

interface Options {
  readonly config?: string;
  readonly host?: string;
  readonly underlay?: string;
  readonly peer?: string[];
  readonly store?: string;
  readonly state?: string;
  readonly datapath?: string;
  readonly copyDscp?: boolean;
  readonly serviceCidr?: string[];
  readonly hook?: string[];
  readonly takeover?: boolean;
}

export function up(program: Command): void {
  verb(program, 'up', {
    summary: 'run the switch on this host, in the foreground',
    examples: [
      'weft up',
      'weft up --underlay 192.0.2.1 --peer 192.0.2.2',
      'weft up --underlay 192.0.2.1 --store etcd://192.0.2.100:2379,192.0.2.101:2379,192.0.2.102:2379',
      'weft up --config /etc/weft.yaml',
      'weft up --config /etc/weft.yaml --takeover',
      'weft --socket /run/weft/a.sock up --host a --state /var/lib/weft-a --config a.yaml',
    ],
  })
    .option(
      '--config <file>',
      'configuration in YAML; it also takes store with the credentials of etcd, allowHost (what containers reach of this host), threads, vxlanPort, stormLimit, tunnelStormLimit, flowLimit, connections, flowIdleMs, fdbQuota, fdbAgeingMs, peerKey, peerKeys and liveness (how other hosts are probed), and metrics (address and port for Prometheus); options given here win',
    )
    .option('--host <name>', 'name of this host (default: its host name)')
    .option(
      '--underlay <address>',
      'own address on the underlay (default: the one that reaches the first peer, or the store)',
    )
    .option(
      '--peer <address[,key]>',
      'underlay address of another host, and the key of the probes between both; may be given several times',
      collect,
    )
    .option(
      '--store <where>',
      'where the state is kept: embedded, or etcd://HOST:PORT[,HOST:PORT…] (default: embedded)',
    )
    .option('--state <dir>', 'directory of what this host keeps (default: /var/lib/weft)')
    .option('--datapath <kind>', 'native or reference (default: native)')
    .option('--copy-dscp', 'encapsulated packets have the DSCP of the packet inside (default: their DSCP is 0)')
    .option(
      '--service-cidr <cidr>',
      'where services get their addresses, the same on all hosts; may be given once for IPv4 and once for IPv6 (default: what the cluster has, or 10.96.0.0/16 and fd77:6566:7460::/112)',
      collect,
    )
    .option(
      '--hook <file.ts>',
      'a flow hook of this host alone, which is read again whenever it changes; may be given several times',
      collect,
    )
    .option(
      '--takeover',
      'take over from the daemon that runs at this socket, without losing a frame or a connection; give all options that it has',
    )
    .action((options: Options, command: Command) => daemon(options, globals(command).socket));
}

/** Its code, which no other command needs. */
export function loadDaemon(): Promise<typeof daemonCode> {
  return import('./daemon.ts');
}

async function daemon({ takeover = false, ...config }: Options, socket: string): Promise<void> {
  const signal = stopSignal();
  const { runDaemon } = await loadDaemon();
  await runDaemon({ config, socket, takeover, signal });
}

/** Resolves with the first SIGINT or SIGTERM. A second one ends the process at once. */
function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let signals = 0;
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      process.on(name, () => {
        if (++signals === 1) resolve(name);
        else process.exit(1);
      });
    }
  });
}
