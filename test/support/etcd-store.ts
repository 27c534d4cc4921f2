/** The store on an etcd of the test, in this process. */
import { openEtcdStore, type EtcdStoreOptions } from '../../src/store/etcd/etcd.ts';
import type { Store } from '../../src/store/store.ts';
import type { Etcd } from './etcd.ts';

export interface EtcdStoreSettings extends Partial<EtcdStoreOptions> {
  /** Called with each warning. */
  readonly onWarning?: (message: string) => void;
}

/** A store on all members, below `weft/`. Whoever opens it closes it. */
export function openStoreOf(etcd: Etcd, settings: EtcdStoreSettings = {}): Store {
  const { certificates } = etcd;
  return openEtcdStore({
    endpoints: etcd.members.map(({ clientAddress }) => clientAddress),
    prefix: 'weft/',
    after: (delayMs, work) => {
      const timeout = setTimeout(work, delayMs);
      return () => clearTimeout(timeout);
    },
    clock: () => performance.now(),
    wallClock: Date.now,
    random: Math.random,
    onWarning: () => {},
    ...(certificates && {
      tls: { ca: certificates.ca, certificate: certificates.client.certificate, key: certificates.client.key },
    }),
    ...settings,
  });
}
