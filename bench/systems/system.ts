/**
 * What is compared. A system is what forwards on each host. The benchmark knows only how it is
 * started on a host and how a container is attached; the two hosts may run different ones.
 */
import type { Lab, Namespace } from '../../test/support/lab.ts';
import type { Container } from '../../test/support/topology.ts';
import { ping } from '../../test/support/traffic.ts';
import { layUnderlay, type Endpoints, type Topology } from '../topology.ts';

export interface System {
  readonly title: string;
  /** On the client's host, which may be the only host. */
  readonly left: StartSwitch;
  /** On the server's host. */
  readonly right: StartSwitch;
}

/** Underlay addresses of a host and of the other host. */
export interface VtepAddresses {
  readonly local: string;
  readonly peer: string;
}

export interface Place {
  readonly lab: Lab;
  readonly host: Namespace;
  /** `left` or `right`. */
  readonly role: string;
  readonly topology: Topology;
  /** Undefined if there is only one host. */
  readonly vtep: VtepAddresses | undefined;
  /** Another checkout of weft. */
  readonly before: string | undefined;
}

/** Starts a switch that runs until the lab is closed; @throws if it does not come up */
export type StartSwitch = (place: Place) => Promise<Switch>;

export interface Switch {
  /** Its processes; none if the kernel forwards. */
  readonly pids: readonly number[];
  /**
   * Creates a container and attaches it, with the overlay addresses of number `n` if the system has only one network.
   */
  attach(role: string, n: number): Promise<Container>;
  /** The address by which the client reaches the server, if that is not the server's own. */
  readonly serverAddress?: () => Promise<string>;
}

const clientNumber = 11;
const serverNumber = 12;

type Setting = Pick<Place, 'topology' | 'before'>;

/** Sets up a topology on a system; when it returns, the client can reach the server. */
export async function connect(lab: Lab, system: System, setting: Setting): Promise<Endpoints> {
  const [left, right] =
    setting.topology.hosts === 1 ? await oneHost(lab, system, setting) : await twoHosts(lab, system, setting);
  const client = (await left.attach('client', clientNumber)).namespace;
  const { namespace: server, ip4 } = await right.attach('server', serverNumber);
  await ping(client, ip4);
  const serverIp = (await left.serverAddress?.()) ?? ip4;
  return { client, server, serverIp, pids: [...new Set([...left.pids, ...right.pids])] };
}

async function oneHost(lab: Lab, system: System, setting: Setting): Promise<[left: Switch, right: Switch]> {
  const host = await lab.namespace('host');
  const only = await system.left({ ...setting, lab, host, role: 'host', vtep: undefined });
  return [only, only];
}

async function twoHosts(lab: Lab, system: System, setting: Setting): Promise<[left: Switch, right: Switch]> {
  const { left, right, leftIp, rightIp } = await layUnderlay(lab, setting.topology);
  const toRight = { local: leftIp, peer: rightIp };
  const toLeft = { local: rightIp, peer: leftIp };
  return [
    await system.left({ ...setting, lab, host: left, role: 'left', vtep: toRight }),
    await system.right({ ...setting, lab, host: right, role: 'right', vtep: toLeft }),
  ];
}
