/** Limits of tenants: each talks to itself and to what is shared, and a trial tenant to no more than the web. */
import { defineHook, deny } from 'weft';

export default defineHook({
  name: 'tenants',
  onFlow({ source, destination }) {
    const { tenant, plan } = source.namespaceLabels;
    if (tenant === undefined) return;
    const owner = destination.namespaceLabels.tenant;
    if (owner !== undefined && owner !== tenant && owner !== 'shared')
      return deny(`${tenant} has no business with ${owner}`);
    if (plan === 'trial' && ![53, 80, 443].includes(destination.port)) return deny('a trial is for the web alone');
  },
});
