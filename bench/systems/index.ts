/** All systems, in the order in which they are reported. */
import { startKernelBridge } from './kernel.ts';
import { startOvs } from './ovs.ts';
import type { System } from './system.ts';
import {
  startWeft,
  startWeftBefore,
  startWeftNatBeyondHost,
  startWeftNatToHost,
  startWeftRouted,
  startWeftService,
} from './weft.ts';

const native = startWeft('native');
const reference = startWeft('reference');
const ovs = startOvs({ port: 'tap', tso: false });
const ovsTso = startOvs({ port: 'tap', tso: true });
const ovsTsoVeth = startOvs({ port: 'veth', tso: true });

export const systems = {
  weft: { title: 'weft, native', left: native, right: native },
  'weft-before': { title: 'weft, before', left: startWeftBefore, right: startWeftBefore },
  'weft-reference': { title: 'weft, reference', left: reference, right: reference },
  'weft-service': { title: 'weft, by a service', left: startWeftService, right: startWeftService },
  'weft-routed': { title: 'weft, routed', left: startWeftRouted, right: startWeftRouted },
  'weft-nat-to-host': { title: 'weft, translated, to the host', left: startWeftNatToHost, right: startWeftNatToHost },
  'weft-nat-beyond-host': {
    title: 'weft, translated, beyond the host',
    left: startWeftNatBeyondHost,
    right: startWeftNatBeyondHost,
  },
  kernel: { title: 'kernel', left: startKernelBridge, right: startKernelBridge },
  ovs: { title: 'OVS userspace', left: ovs, right: ovs },
  'ovs-tso': { title: 'OVS userspace, TSO', left: ovsTso, right: ovsTso },
  'ovs-tso-veth': { title: 'OVS userspace, TSO, veth', left: ovsTsoVeth, right: ovsTsoVeth },
  'weft-to-kernel': { title: 'weft → kernel', left: native, right: startKernelBridge },
  'kernel-to-weft': { title: 'kernel → weft', left: startKernelBridge, right: native },
} as const satisfies Record<string, System>;
export type SystemName = keyof typeof systems;
