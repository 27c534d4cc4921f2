/** A balancer of one’s own: half of the connections go to backends in the rack of the client, if there are some. */
import { balance, defineHook } from 'weft';

export default defineHook({
  name: 'balancer',
  onFlow({ service, source, backends }) {
    if (service === undefined || backends.length === 0) return;
    const { rack } = source.labels;
    const near = backends.filter(({ labels }) => rack !== undefined && labels.rack === rack).length;
    const far = backends.length - near;
    if (near === 0 || far === 0) return;
    return balance(backends.map((one) => ({ ...one, weight: one.labels.rack === rack ? far : near })));
  },
});
