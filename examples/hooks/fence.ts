/** A fence by prefix: data of the zone eu stays in these prefixes, and clients outside come from one of them alone. */
import { defineHook, isIn, reject } from 'weft';

const inside = ['10.0.0.0/8', 'fd00::/8'];
const partners = ['198.51.100.0/24', '2001:db8:51::/48'];

export default defineHook({
  name: 'fence',
  onFlow({ source, destination }) {
    if (source.network === undefined) return isIn(source.address, ...partners) ? undefined : reject('partners alone');
    if (source.labels.zone === 'eu' && !isIn(destination.address, ...inside))
      return reject('data of the EU stays here');
  },
});
