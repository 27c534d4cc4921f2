/** All systems, in the order in which they are reported. */
import { startKernelBridge } from './kernel.ts';
import { startOvs } from './ovs.ts';
import type { System } from './system.ts';
import {
  startWeft,
  startWeftBefore,
  startWeftHook,
  startWeftNatBeyondHost,
  startWeftNatToHost,
  startWeftPolicies,
  startWeftRouted,
  startWeftService,
} from './weft.ts';

const native = startWeft('native');
const reference = startWeft('reference');
const hook = startWeftHook('allow()');
const treated = startWeftHook("allow({ mark: 7, dscp: 10, rate: { by: 'all', bitsPerSecond: 1_000_000_000_000 } })");
const ovs = startOvs({ port: 'tap', tso: false });
const ovsTso = startOvs({ port: 'tap', tso: true });
const ovsTsoVeth = startOvs({ port: 'veth', tso: true });

export const systems = {
  weft: { title: 'weft, native', left: native, right: native },
  'weft-before': { title: 'weft, before', left: startWeftBefore, right: startWeftBefore },
  'weft-reference': { title: 'weft, reference', left: reference, right: reference },
  'weft-service': { title: 'weft, by a service', left: startWeftService, right: startWeftService },
  'weft-policies': { title: 'weft, 1,000 policies', left: startWeftPolicies, right: startWeftPolicies },
  'weft-hook': { title: 'weft, a hook', left: hook, right: hook },
  'weft-treated': { title: 'weft, a hook that sets mark, DSCP and rate', left: treated, right: treated },
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
