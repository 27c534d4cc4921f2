/**
 * The stores of a switch: what only this host keeps, and the state of the cluster. With one host, both are the embedded
 * store in its state directory. With etcd, all hosts share what lies below its prefix:
 *
 *   state/     the state: what every host follows
 *   applied/   which revision of the state each host has in force; hosts do not follow it
 *   questions/ what hosts ask each other, for some seconds (`cluster/membership/questions.ts`)
 */
import { join } from 'node:path';
import type { Feed } from './cluster/feed/feed.ts';
import { LocalFeed } from './cluster/feed/local-feed.ts';
import { SharedFeed, type SharedFeedEnvironment } from './cluster/feed/shared-feed.ts';
import { FORMAT_KEY } from './cluster/feed/store-identity.ts';
import type { Membership } from './cluster/membership/membership.ts';
import { useStore } from './cluster/store-of-attachments.ts';
import type { DaemonConfig } from './config.ts';
import { openEmbeddedStore, type EmbeddedStoreOptions } from './store/embedded.ts';
import type { EtcdStoreOptions } from './store/etcd/etcd.ts';
import { unlimited } from './store/staged.ts';
import type { Store } from './store/store.ts';
import { within } from './store/within.ts';

const STATE = 'state/';

export interface Stores {
  /** What only this host keeps. */
  readonly own: Store;
  /** The state of the cluster: `own` if no store is shared. Closing it also closes the others of a shared store. */
  readonly store: Store;
  /** Where hosts publish which revision they have in force; undefined if no store is shared. */
  readonly applied: Store | undefined;
  /** What hosts ask each other; undefined if no store is shared. */
  readonly questions: Store | undefined;
}

/**
 * Opens them; a shared store connects by itself.
 * @throws WeftError if the state directory or a file with credentials cannot be used, or if what is attached here belongs to
 * another store; nothing is left open then
 */
export async function openStores(
  {
    state,
    store: shared,
    descriptors,
  }: Pick<DaemonConfig, 'state' | 'store'> & Pick<EmbeddedStoreOptions, 'descriptors'>,
  means: Pick<EtcdStoreOptions, 'after' | 'clock' | 'wallClock' | 'random' | 'onWarning'>,
): Promise<Stores> {
  const { onWarning, after } = means;
  const own = await openEmbeddedStore({ directory: state, descriptors, onWarning, after });
  try {
    await useStore(own, shared);
    if (shared === 'embedded') return { own, store: own, applied: undefined, questions: undefined };
    // Forwarding waits for all code to be loaded, and most hosts do not need this.
    const { openEtcdStore } = await import('./store/etcd/etcd.ts');
    const root = openEtcdStore({ ...shared, ...means, nameKey: `${STATE}${FORMAT_KEY}` });
    const store = unlimited(within(root, STATE, () => root.close()));
    return { own, store, applied: within(root, 'applied/'), questions: within(root, 'questions/') };
  } catch (error) {
    await own.close();
    throw error;
  }
}

/** Opens what follows the state of the cluster. */
export function openFeed(
  {
    state,
    store: shared,
    host,
    logger,
    descriptors,
  }: Pick<DaemonConfig, 'state' | 'store' | 'host'> &
    Pick<SharedFeedEnvironment, 'logger'> & { readonly descriptors?: Pick<SharedFeedEnvironment, 'isContinued'> },
  {
    store,
    own,
    newId,
    after,
    wallClock,
  }: Pick<SharedFeedEnvironment, 'store' | 'own' | 'newId' | 'after' | 'wallClock'>,
  { id, membership }: { readonly id: string; readonly membership: () => Pick<Membership, 'whyBarred' | 'isDecided'> },
): Feed {
  if (shared === 'embedded') return new LocalFeed(store);
  return new SharedFeed({
    ...{ store, place: shared, own, host, newId, after, wallClock, logger },
    id,
    whyBarred: () => membership().whyBarred,
    isDecided: () => membership().isDecided,
    copyFile: join(state, 'copy'),
    isContinued: descriptors?.isContinued ?? false,
  });
}
