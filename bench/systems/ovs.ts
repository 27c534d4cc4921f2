/**
 * Open vSwitch without its kernel module: `datapath_type=netdev`, with a database and a switch
 * process of its own on each host.
 *
 *   bridge br0      the containers, and between hosts a vxlan port
 *   bridge br-phy   the underlay: OVS sends encapsulated frames itself, so the underlay's
 *                   address is on a bridge, from which it learns the route and the MAC
 *
 * A container is connected by a TAP of OVS that is moved into its namespace, or by a veth cable.
 * OVS reads at most 1500 bytes from a TAP that it no longer sees, so jumbo frames need a veth.
 * With TSO, OVS 3.1 sends no TCP into a tunnel, so there it can only be measured without.
 */
import { join } from 'node:path';
import type { Namespace } from '../../test/support/lab.ts';
import { run, until } from '../../test/support/process.ts';
import { overlay, overlayIps, underlayLink, type Container } from '../../test/support/topology.ts';
import { containerMtu } from '../topology.ts';
import type { Place, StartSwitch, Switch } from './system.ts';

export interface OvsVariant {
  readonly port: 'tap' | 'veth';
  /** `userspace-tso-enable`. */
  readonly tso: boolean;
}

const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';
const READY_MS = 10_000;

export function startOvs(variant: OvsVariant): StartSwitch {
  return async (place) => {
    const { vsctl, pids } = await startDaemons(place, variant);
    await vsctl('add-br br0 -- set bridge br0 datapath_type=netdev');
    if (place.vtep) await addTunnel(place, place.vtep, vsctl);
    return { pids, attach: (role, n) => attach(place, variant, vsctl, role, n) } satisfies Switch;
  };
}

type Vsctl = (words: string) => Promise<string>;

/** OVS reads the TSO setting once, when the switch starts. */
async function startDaemons(
  { lab, host, role }: Place,
  { tso }: OvsVariant,
): Promise<{ vsctl: Vsctl; pids: number[] }> {
  const directory = join(lab.directory, role);
  const file = (name: string): string => join(directory, name);
  await run(['mkdir', directory]);
  await run(['ovsdb-tool', 'create', file('conf.db'), SCHEMA]);
  const environment = ['OVS_RUNDIR', 'OVS_LOGDIR', 'OVS_DBDIR', 'OVS_SYSCONFDIR'].map((name) => `${name}=${directory}`);
  const start = (program: string, ...words: string[]): number => {
    const own = [`--unixctl=${file(`${program}.ctl`)}`, '-vconsole:warn'];
    const process = host.start(['env', ...environment, program, ...words, ...own]);
    lab.onFailure(() => process.stderr);
    return process.pid;
  };
  const database = `unix:${file('db.sock')}`;
  const vsctl = (words: string): Promise<string> =>
    run(['ovs-vsctl', `--db=${database}`, '--timeout=10', ...words.split(' ')]);

  const databasePid = start('ovsdb-server', file('conf.db'), `--remote=p${database}`);
  await until(() => vsctl('--no-wait init').then(() => true), { timeoutMs: READY_MS, what: 'the database answers' });
  await vsctl(`--no-wait set Open_vSwitch . other_config:userspace-tso-enable=${tso}`);
  return { vsctl, pids: [databasePid, start('ovs-vswitchd', database)] };
}

async function addTunnel(
  { host, topology }: Place,
  vtep: { readonly local: string; readonly peer: string },
  vsctl: Vsctl,
): Promise<void> {
  await vsctl('add-br br-phy -- set bridge br-phy datapath_type=netdev');
  await vsctl(`add-port br-phy ${underlayLink} -- set interface br-phy mtu_request=${topology.mtu}`);
  await host.ip(`addr flush dev ${underlayLink}`);
  await host.ip(`addr add ${vtep.local}/24 dev br-phy`);
  await host.ip('link set br-phy up');
  const options = `options:local_ip=${vtep.local} options:remote_ip=${vtep.peer} options:key=${overlay.vni}`;
  await vsctl(`add-port br0 vxlan0 -- set interface vxlan0 type=vxlan ${options}`);
}

async function attach(
  { lab, host, topology }: Place,
  { port, tso }: OvsVariant,
  vsctl: Vsctl,
  role: string,
  n: number,
): Promise<Container> {
  const container = await lab.namespace(role);
  const name = `${port}-${role}`;
  const mtu = containerMtu(topology);
  if (port === 'tap' && mtu <= 1500) {
    await vsctl(`add-port br0 ${name} -- set interface ${name} type=tap mtu_request=${mtu}`);
    await host.ip(`link set ${name} netns ${container.name}`);
    await container.ip(`link set ${name} name eth0`);
  } else {
    await lab.cable(host, name, container, 'eth0', { mtu });
    await vsctl(`add-port br0 ${name}`);
  }
  // Without TSO, OVS passes checksums on unchanged, and a container leaves them to the hardware.
  if (!tso) await container.run(['ethtool', '-K', 'eth0', 'tx', 'off']);
  return addressed(container, n);
}

async function addressed(namespace: Namespace, n: number): Promise<Container> {
  const [ip4, ip6] = overlayIps(n);
  const mac = `02:4b:00:00:00:${n.toString(16).padStart(2, '0')}`;
  await namespace.ip(`link set eth0 address ${mac}`);
  await namespace.ip(`addr add ${ip4}/24 dev eth0`);
  await namespace.ip('link set eth0 up');
  return { namespace, ip4, ip6, mac };
}
