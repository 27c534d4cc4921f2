/** weft, as an operator would run it: `weft up`, `weft network create`, `weft attach`, with static peers. */
import { attachContainer, overlay } from '../../test/support/topology.ts';
import { Weft, type DatapathKind } from '../../test/support/weft.ts';
import type { StartSwitch } from './system.ts';

export function startWeft(datapath: DatapathKind): StartSwitch {
  return async ({ lab, host, role, vtep }) => {
    const where = vtep ? { underlay: vtep.local, peers: [vtep.peer] } : {};
    const weft = await Weft.up(lab, host, role, { datapath, ...where });
    await weft.createNetwork(overlay.create);
    return { pids: [weft.pid], attach: (container, n) => attachContainer(lab, weft, container, n) };
  };
}
