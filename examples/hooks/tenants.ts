/** Limits of tenants: each talks to itself and to what is shared; trial tenants to no more than the web, and at a rate of their own. */
import { allow, defineHook, deny } from 'weft';

export default defineHook({
  name: 'tenants',
  onFlow({ source, destination }) {
    const { tenant, plan } = source.namespaceLabels;
    if (tenant === undefined) return allow();
    const owner = destination.namespaceLabels.tenant;
    if (owner !== undefined && owner !== tenant && owner !== 'shared')
      return deny(`${tenant} has no business with ${owner}`);
    if (plan !== 'trial') return allow();
    if (![53, 80, 443].includes(destination.port)) return deny('a trial is for the web alone');
    return allow({ rate: { by: tenant, bitsPerSecond: 10_000_000 } });
  },
});
