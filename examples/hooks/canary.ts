/** Canary by client: who is labelled `canary: "true"` gets version v2 of the service shop/web, everybody else v1. */
import { balance, defineHook } from 'weft';

export default defineHook({
  name: 'canary',
  onFlow({ service, source, backends }) {
    if (service !== 'shop/web') return;
    const version = source.labels.canary === 'true' ? 'v2' : 'v1';
    return balance(backends.filter(({ labels }) => labels.version === version));
  },
});
