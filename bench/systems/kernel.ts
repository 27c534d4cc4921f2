/** The kernel by itself: containers on a bridge with veth cables, and between hosts a vxlan device on the bridge. */
import type { Namespace } from '../../test/support/lab.ts';
import { kernelContainer, kernelVtep } from '../../test/support/topology.ts';
import { containerMtu } from '../topology.ts';
import type { Place, Switch } from './system.ts';

export async function startKernelBridge({ lab, host, topology, vtep }: Place): Promise<Switch> {
  const mtu = containerMtu(topology);
  if (vtep) {
    await kernelVtep(host, vtep.local, vtep.peer, mtu);
  } else {
    await host.ip('link add br0 type bridge');
    await host.ip('link set br0 up');
  }
  await bypassIptables(host);
  return { pids: [], attach: (role, n) => kernelContainer(lab, host, role, n, mtu) };
}

/** Frames on a bridge pass through iptables if that module is loaded; the other systems do nothing like that. */
async function bypassIptables(host: Namespace): Promise<void> {
  const setting = '/proc/sys/net/bridge/bridge-nf-call-iptables';
  await host.run(['sh', '-c', `if [ -e ${setting} ]; then echo 0 >${setting}; fi`]);
}
