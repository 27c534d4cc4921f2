/**
 * The cluster as this host sees it: what is declared, and the only way to change it.
 *
 *   1. `apply` or `delete` checks it, resolves its references and allots addresses, all on a draft
 *   2. one compare-and-swap transaction stores it: a file is stored completely or not at all
 *   3. the feed reports it, just as it reports what other writers store (`feed.ts`)
 *   4. the reconciler of its kind puts it into force (`enforcement.ts`)
 *
 * An operation returns when step 4 is done for what it has written. A start runs steps 3 and 4 for
 * everything in the store. What cannot be put into force stays declared, and waits.
 */
import { isDeepStrictEqual } from 'node:util';
import { WeftError } from '../error.ts';
import { hostKind } from '../model/kinds/host.ts';
import type { KindDefinition } from '../model/kinds/kind.ts';
import { compareKinds, kindOf, kinds } from '../model/kinds/registry.ts';
import { someOf } from '../model/name.ts';
import type { AcceptReport, ApplyReport } from '../model/report.ts';
import { DEFAULT_NAMESPACE, idOf, nameOf, weightOf, type Resource, type ResourceName } from '../model/resource.ts';
import { validate } from '../model/validate.ts';
import { isUnanswered, joined, type Entry, type Transaction } from '../store/store.ts';
import { inTurns } from '../turns.ts';
import { Confirmation } from './confirmation.ts';
import { marked, unmarked, unreadError } from './deletions.ts';
import { FileDraft, recordAnew } from './draft.ts';
import { isHere, type Endpoint } from './endpoint.ts';
import { Enforcement, type EnforcementEnvironment } from './enforcement.ts';
import type { Followers } from './followers.ts';
import { isReferredTo, refuseInUse } from './in-use.ts';
import { keyOf, nameOfKey } from './keys.ts';
import { namespaceRecord } from './migration.ts';
import { PlanAgain, planned } from './plan-again.ts';
import { changeOf, removalOf, type ProposedChange } from './proposed-change.ts';
import { PENDING, PENDING_REMOVAL, type Declared } from './reconciler.ts';
import type { RefusedRecords } from './refused-records.ts';
import { isStopping, Serial } from './serial.ts';
import { withSwept, type Swept } from './swept.ts';
import { Writes, type WritesEnvironment } from './writes.ts';

export interface ClusterEnvironment extends EnforcementEnvironment, WritesEnvironment {
  readonly hostName: string;
  /**
   * Called before anything is stored, so that foreseeable failures happen here. After a failure, `onEnforced` follows.
   */
  readonly prepare: (resources: readonly Resource[]) => Promise<void>;
  /** Called with each change when it is planned. @throws WeftError if it must not be stored */
  readonly check: (change: ProposedChange) => Promise<void>;
  /** Called when the applied resources are in force. @throws WeftError, which is reported to whoever applied them */
  readonly onApplied: (resources: readonly Resource[]) => Promise<void>;
  /**
   * Begins to note which open connections policies end on this host. What is returned waits until they have been judged by
   * what is in force by then, and tells those that have ended.
   */
  readonly noteSwept?: () => () => Promise<Swept>;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
}

/** Labels to set; null removes one. */
export type LabelChanges = Readonly<Record<string, string | null>>;

export interface ApplyOptions {
  readonly dryRun?: boolean;
  /** For how long the change waits to be confirmed, before it is taken back. */
  readonly confirmMs?: number | undefined;
}

/** What a change would do to a resource. */
export interface ChangedResource {
  readonly action: 'created' | 'configured';
  /** As they are shown. Undefined: it does not exist. */
  readonly before: Resource | undefined;
  readonly after: Resource;
}

/** How many resources are planned in one turn of the event loop. */
const PLANNED_PER_TURN = 16;

export class Cluster {
  readonly serial = new Serial();
  readonly refused: RefusedRecords;
  readonly followers: Followers;
  readonly confirmation: Confirmation;
  readonly #environment: ClusterEnvironment;
  readonly #enforcement: Enforcement;
  readonly #writes: Writes;
  /** The keys of what is being deleted, and whether it was marked for that. */
  readonly #deleting = new Map<string, boolean>();

  constructor(environment: ClusterEnvironment) {
    this.#environment = environment;
    this.confirmation = new Confirmation({
      ...environment,
      change: (work) => this.change(work),
      apply: (resources, takesBack) => this.applyNow(resources, { takesBack }),
      remove: (kind, which, takesBack) => this.deleteNow(kind, which, { takesBack }),
      write: (transaction) => this.#writes.write(transaction),
    });
    const registers = [...environment.registers, this.confirmation];
    this.#enforcement = new Enforcement({ ...environment, registers });
    this.#writes = new Writes(environment, this.#enforcement);
    this.refused = this.#enforcement.refused;
    this.followers = this.#enforcement.followers;
  }

  /**
   * Puts everything that there is into force, and follows the feed from then on. Call within `serial`.
   * @param onStarted called when everything is in force, within `serial`: before this returns, or when there is something
   * to put into force at last
   * @param onConnected called when it is known whether the store can be used, before anything is put into force
   */
  async start(onStarted = async (): Promise<void> => {}, onConnected = async (): Promise<void> => {}): Promise<void> {
    const { feed, hostName, logger } = this.#environment;
    await feed.start(() => {
      void this.serial
        .run(() => this.#enforcement.follow())
        .catch((error: unknown) => {
          if (!isStopping(error)) logger.error({ err: error }, 'unexpected');
        });
    });
    await onConnected();
    await this.#enforcement.start(async () => {
      await onStarted();
      await this.#unmark(this.#enforcement.deletions.of(hostName)).catch(() => {});
    });
  }

  /** Ends the feed, and those who follow. No change may be running any more. */
  close(): Promise<void> {
    this.confirmation.close();
    this.followers.close();
    return this.#environment.feed.close();
  }

  /** False while this host has something in force that a shared store does not have yet. */
  get isStored(): boolean {
    return this.#enforcement.isStored;
  }

  /** True if the store has such a resource, be it one that this host does not accept. */
  isDeclared(kind: KindDefinition, name: string): boolean {
    const reconciler = this.#environment.reconcilers.get(kind.kind)!;
    return reconciler.find(name) !== undefined || this.refused.revision(kind, name) !== undefined;
  }

  /** Applies all of `resources`, or none. @throws WeftError about the first one that is not possible */
  apply(resources: readonly Resource[], options: ApplyOptions = {}): Promise<ApplyReport[]> {
    const work = async (): Promise<ApplyReport[]> => {
      const reports = await this.applyNow(resources, options);
      return this.#withUntil(reports, options.confirmMs !== undefined);
    };
    return this.change(options.dryRun ? work : () => this.#withSwept(work));
  }

  /**
   * Runs a change within `serial`, on everything that the feed has so far. If another writer has changed what it was
   * planned on, it runs again: what two hosts do at once is refused only if it does not go together.
   */
  async change<T>(work: () => Promise<T>): Promise<T> {
    await this.#environment.feed.readable();
    return planned(() => this.serial.run(() => this.enforce().then(work)));
  }

  /** Adds until when resources are to be confirmed: those of this change, if that waits, and those that a change made that waits. */
  #withUntil(reports: readonly ApplyReport[], isToConfirm: boolean): ApplyReport[] {
    const { until: unconfirmedUntil } = this.confirmation;
    if (unconfirmedUntil === undefined) return [...reports];
    return reports.map((report) => {
      const kind = kindOf(report);
      const id = idIn(kind, report);
      const isAsMade = this.confirmation.hasMade(
        keyOf(kind, id),
        this.#environment.reconcilers.get(kind.kind)!.find(id)?.revision,
      );
      const waits = report.action === 'unchanged' ? isAsMade : isToConfirm;
      return waits ? { ...report, unconfirmedUntil } : report;
    });
  }

  /** Adds to what is reported of a change which connections policies have ended because of it. */
  async #withSwept(work: () => Promise<ApplyReport[]>): Promise<ApplyReport[]> {
    const swept = this.#environment.noteSwept?.();
    let reports: ApplyReport[] = [];
    try {
      reports = await work();
    } finally {
      const all = await swept?.();
      if (all && all.events.length > 0) reports = withSwept(reports, all);
    }
    return reports;
  }

  /**
   * Like `apply`, for a caller that already runs within `change`.
   * @param takesBack what is stored with it if it is what was there before, which PolicyTests do not hold up
   */
  async applyNow(
    resources: readonly Resource[],
    {
      dryRun = false,
      moves,
      confirmMs,
      takesBack,
    }: ApplyOptions & { readonly moves?: readonly string[]; readonly takesBack?: Transaction } = {},
  ): Promise<ApplyReport[]> {
    const { reconcilers } = this.#environment;
    const draft = this.#draft(moves);
    const ordered = [...resources].sort(compareKinds);
    let actions: readonly ApplyReport['action'][];
    try {
      actions = await plan(draft, ordered);
      if (!takesBack) await this.#environment.check(draft);
      const also = confirmMs === undefined ? takesBack : this.#unconfirmed(draft, ordered, actions, confirmMs);
      if (dryRun) draft.undo();
      else await this.#store(draft, ordered, also);
    } catch (error) {
      draft.undo();
      throw error;
    }
    const mended = dryRun ? new Set<Resource>() : await this.#retry(ordered, actions);
    if (!dryRun) await this.#environment.onApplied(ordered);
    return ordered.map((resource, at) => {
      const action = actions[at] === 'unchanged' && mended.has(resource) ? 'configured' : actions[at]!;
      const { kind, metadata } = resource;
      const reconciler = reconcilers.get(kind)!;
      const isPending = !dryRun && (reconciler.find(idOf(metadata))?.revision ?? 0) < 0;
      const waiting = dryRun ? undefined : reconciler.failure?.(idOf(metadata))?.message;
      if (action !== 'unchanged' && !dryRun) this.#environment.logger.info({ kind, name: idOf(metadata) }, action);
      const { name, namespace } = metadata;
      return {
        kind,
        name,
        ...(namespace !== undefined && { namespace }),
        action,
        dryRun,
        ...(waiting !== undefined && { waiting }),
        ...(isPending && { pending: PENDING }),
      };
    });
  }

  /**
   * Asks what would be if these resources were applied, on top of everything that is declared. Nothing is changed.
   * @throws WeftError about the first one that is not possible
   */
  propose<T>(
    resources: readonly Resource[],
    ask: (change: ProposedChange, changed: readonly ChangedResource[]) => Promise<T>,
  ): Promise<T> {
    return this.change(async () => {
      const draft = this.#draft();
      try {
        const ordered = [...resources].sort(compareKinds);
        const actions = await plan(draft, ordered);
        const changed = ordered.flatMap((resource, at) => this.#changed(resource, actions[at]!, draft));
        return await ask(draft, changed);
      } finally {
        draft.undo();
      }
    });
  }

  /** What is stored with a change so that it can be taken back; undefined if nothing changes. */
  #unconfirmed(
    draft: FileDraft,
    ordered: readonly Resource[],
    actions: readonly ApplyReport['action'][],
    forMs: number,
  ): Transaction | undefined {
    const changed = ordered.flatMap((resource, at) => this.#changed(resource, actions[at]!, draft));
    const replaced = changed.map(({ before, after }) => {
      const [kind, name] = [kindOf(after), idOf(after.metadata)];
      if (!draft.isRefused(kind.kind, name)) return { kind, name, before };
      const why = `what the store has as ${kind.kind.toLowerCase()} "${name}" is not in force here, and could not be put back`;
      throw new WeftError('conflict', `${why}: apply it without --confirm`);
    });
    return replaced.length === 0 ? undefined : this.confirmation.plan(replaced, forMs);
  }

  #changed({ kind, metadata }: Resource, action: ApplyReport['action'], draft: FileDraft): ChangedResource[] {
    const name = idOf(metadata);
    const reconciler = this.#environment.reconcilers.get(kind)!;
    const after = draft.planned(kind).get(name);
    const before = reconciler.find(name);
    if (!after || (action !== 'created' && action !== 'configured')) return [];
    return [{ action, before: before && reconciler.shown(before), after: reconciler.shown(after) }];
  }

  #draft(moves?: readonly string[]): FileDraft {
    const { feed, reconcilers } = this.#environment;
    const isHeld = (kind: KindDefinition, name: string): boolean => feed.failure(kind, name) !== undefined;
    return new FileDraft(reconcilers, this.refused, moves, isHeld, this.#enforcement.deletions);
  }

  /** @throws WeftError `not_found` if it does not exist, `conflict` if others still need it */
  async delete(
    kind: KindDefinition,
    which: ResourceName,
    options: { readonly dryRun?: boolean } = {},
  ): Promise<ApplyReport> {
    const key = keyOf(kind, idIn(kind, which));
    this.#deleting.set(key, false);
    try {
      const [report] = await this.change(() =>
        this.#withSwept(async () => [await this.deleteNow(kind, which, options)]),
      );
      return report!;
    } catch (error) {
      await this.serial.run(() => this.#unmark([key])).catch(() => {});
      throw error;
    } finally {
      this.#deleting.delete(key);
    }
  }

  /**
   * Like `applyNow` for one resource, but one that did not exist before does not stay declared if it cannot be put into
   * force now.
   * @throws WeftError that says why not; it also says so if the resource stays declared
   */
  async applyOrTakeBack(resource: Resource, options: { readonly moves?: readonly string[] } = {}): Promise<void> {
    const kind = kindOf(resource);
    const name = idOf(resource.metadata);
    const reconciler = this.#environment.reconcilers.get(kind.kind)!;
    const isNew = reconciler.find(name) === undefined;
    try {
      await this.applyNow([resource], options);
      const failure = isNew ? reconciler.failure?.(name) : undefined;
      if (failure) throw failure;
    } catch (error) {
      if (!isNew || !reconciler.find(name)) throw error;
      await this.deleteNow(kind, resource.metadata).catch(({ message }: Error) => {
        const { code, message: failure } = error as WeftError;
        const why = `${failure}; it stays declared until you delete it, since that cannot be stored: ${message}`;
        throw new WeftError(code, why, { cause: error });
      });
      throw error;
    }
  }

  /** Like `delete`, for a caller that already runs within `change`. */
  async deleteNow(
    kind: KindDefinition,
    which: ResourceName,
    { dryRun = false, takesBack }: { readonly dryRun?: boolean; readonly takesBack?: Transaction } = {},
  ): Promise<ApplyReport> {
    const { feed, reconcilers, logger } = this.#environment;
    const name = idIn(kind, which);
    const reconciler = reconcilers.get(kind.kind)!;
    // A shared store may have what is not in force here.
    const isElsewhere = feed.failure(kind, name) !== undefined && !reconciler.find(name);
    const revision = this.refused.revision(kind, name) ?? (isElsewhere ? 0 : reconciler.get(name).revision);
    reconciler.refuseRemoval?.(name);
    refuseInUse(kind, name, this.#all(), this.refused);
    if (!takesBack) await this.#environment.check(removalOf(kind.kind, name));
    let isPending = false;
    const goes = reconciler.goesWith?.(name) ?? [];
    if (!dryRun) {
      const key = keyOf(kind, name);
      const isMarked = feed.report() !== null && isReferredTo(kind) && reconciler.find(name) !== undefined;
      const expected = { key, revision: isMarked ? await this.#mark(kind, name, revision) : revision };
      const made = await this.#writes.write(
        joined({ expect: [expected], delete: [key] }, reconciler.planRemoval?.(name) ?? {}, takesBack ?? {}),
      );
      isPending = made < 0;
      logger.info({ kind: kind.kind, name, ...(goes.length > 0 && { with: someOf(goes) }) }, 'deleted');
    }
    const report = { kind: kind.kind, ...nameIn(kind, name), action: 'deleted', dryRun } as const;
    return { ...report, ...(goes.length > 0 && { with: goes }), ...(isPending && { pending: PENDING_REMOVAL }) };
  }

  /**
   * From here on, nobody begins to refer to it (`deletions.ts`).
   * @returns the revision of the mark @throws WeftError('conflict') if somebody does already
   */
  async #mark(kind: KindDefinition, name: string, revision: number): Promise<number> {
    const { hostName } = this.#environment;
    const key = keyOf(kind, name);
    if (this.#deleting.get(key)) this.#enforcement.deletions.refuseKept(kind, name);
    const stored = await this.#stored(key);
    // What the store has lost is there as a whole, if it stays after all.
    const { resource } = this.#environment.reconcilers.get(kind.kind)!.get(name);
    const value = marked(stored?.value ?? (await recordAnew(this.#draft(), resource)), hostName);
    const markedAt = await this.#writes.write({ expect: [{ key, revision }], put: [{ key, value }] });
    if (this.#deleting.has(key)) this.#deleting.set(key, true);
    if (!(await this.#environment.feed.knows(markedAt))) throw unreadError(kind, name);
    await this.#enforcement.follow();
    refuseInUse(kind, name, this.#all(), this.refused);
    return markedAt;
  }

  /** A record as it is stored, which is about to be changed. @throws WeftError that names it */
  async #stored(key: string): Promise<Entry | undefined> {
    try {
      return await this.#environment.feed.get(key);
    } catch (error) {
      const { code, message } = error as WeftError;
      throw new WeftError(code, `${message}: ${nameOfKey(key)} cannot be changed meanwhile`, { cause: error });
    }
  }

  /** Takes off what is left of this host's marks. @param keys those that may be left */
  async #unmark(keys: readonly string[]): Promise<void> {
    const { feed, hostName } = this.#environment;
    for (const key of keys) {
      const stored = this.#enforcement.deletions.by(key) === hostName ? await feed.get(key) : undefined;
      if (!stored) continue;
      await this.#writes.write({
        expect: [{ key, revision: stored.revision }],
        put: [{ key, value: unmarked(stored.value) }],
      });
    }
  }

  /** @throws WeftError while a shared store has never been reached: nobody here knows then what there is */
  requireKnown(): void {
    const waiting = this.#environment.feed.waitsFor();
    if (!waiting) return;
    throw new WeftError(waiting.code, `this host knows nothing of the cluster yet: ${waiting.message}`);
  }

  /** The resources as declared. @throws WeftError('not_found') if `name` does not exist */
  get(kind: KindDefinition, { name, namespace }: Partial<ResourceName> = {}): Resource[] {
    this.requireKnown();
    const reconciler = this.#environment.reconcilers.get(kind.kind)!;
    if (name !== undefined) {
      const id = idIn(kind, { name, namespace });
      const { feed } = this.#environment;
      const refused = this.refused.failure(kind, id) ?? feed.failure(kind, id);
      const isDeclared = reconciler.find(id) !== undefined;
      if (refused && !isDeclared) throw refused;
      const [derived] = isDeclared ? [] : (reconciler.derived?.(id) ?? []);
      if (derived) return [derived];
      return [reconciler.shown(reconciler.get(id))];
    }
    const all = [...reconciler.all().map((declared) => reconciler.shown(declared)), ...(reconciler.derived?.() ?? [])];
    if (namespace === undefined || !kind.isNamespaced) return all;
    return all.filter(({ metadata }) => metadata.namespace === namespace);
  }

  /** Sets labels of a resource; null removes one. */
  async label(kind: KindDefinition, which: ResourceName, labels: LabelChanges): Promise<ApplyReport> {
    const [report] = await this.change(() => this.#withSwept(async () => [await this.#labelNow(kind, which, labels)]));
    return report!;
  }

  async #labelNow(kind: KindDefinition, which: ResourceName, labels: LabelChanges): Promise<ApplyReport> {
    const { feed, reconcilers, logger } = this.#environment;
    const name = idIn(kind, which);
    const declared = reconcilers.get(kind.kind)!.get(name);
    const { resource, revision } = declared;
    const refused = this.refused.failure(kind, name) ?? feed.failure(kind, name);
    if (refused) throw refused;
    const changed = { ...resource.metadata.labels, ...labels };
    const kept = Object.fromEntries(
      Object.entries(changed).filter((entry): entry is [string, string] => entry[1] !== null),
    );
    const report = { kind: kind.kind, ...nameIn(kind, name), dryRun: false };
    if (JSON.stringify(kept) === JSON.stringify(resource.metadata.labels)) return { ...report, action: 'unchanged' };
    const labelled = { ...resource, metadata: { ...resource.metadata, labels: kept } };
    validate(kind.schema, labelled);
    await this.#environment.check(changeOf(declared, labelled));
    const key = keyOf(kind, name);
    const stored = await this.#stored(key);
    const value = { ...(stored?.value as object), resource: labelled };
    const made = await this.#writes.write({ expect: [{ key, revision }], put: [{ key, value }] });
    logger.info({ kind: kind.kind, name }, 'configured');
    return { ...report, action: 'configured', ...(made < 0 && { pending: PENDING }) };
  }

  /** Puts into force what a shared store says although it is not what it was. @throws WeftError if that is not possible */
  acceptStore(): Promise<AcceptReport> {
    return this.serial.run(async () => {
      await this.#enforcement.follow();
      const report = await this.#environment.feed.accept();
      await this.#enforcement.follow();
      await this.#keepDefaultNamespace();
      return { ...report, accepted: this.refused.explained(report.accepted) };
    });
  }

  /** It is always there, also when the store has lost it. */
  async #keepDefaultNamespace(): Promise<void> {
    if (this.#environment.reconcilers.get('Namespace')!.get(DEFAULT_NAMESPACE).revision > 0) return;
    const record = namespaceRecord(DEFAULT_NAMESPACE);
    try {
      await this.#writes.write({ expect: [{ key: record.key, revision: 0 }], put: [record] });
    } catch (error) {
      // Another host was faster.
      if (!(error instanceof WeftError) || error.code !== 'conflict') throw error;
    }
  }

  /** Deletes all endpoints of this host. For when nothing else runs any more. @param also what else to delete with them */
  purge(also: () => Transaction = () => ({})): Promise<void> {
    return planned(async () => {
      await this.enforce();
      const { hostName, reconcilers } = this.#environment;
      const isThere = (host: string): boolean => this.isDeclared(hostKind, host);
      const endpoints = [...this.#all()].filter(
        (one) =>
          one.resource.kind === 'Endpoint' &&
          isHere(one as Endpoint) &&
          !this.refused.isOfAnother(kindOf(one.resource), one.name, hostName, isThere),
      );
      const expect = endpoints.map((one) => this.refused.expectation(kindOf(one.resource), one));
      for (const { resource, name } of endpoints) reconcilers.get(resource.kind)!.planRemoval?.(name);
      const all = joined({ expect, delete: expect.map(({ key }) => key) }, also());
      if (all.delete!.length > 0) await this.#writes.write(all);
    });
  }

  /**
   * Puts everything that the feed has so far into force. Call within `serial`.
   * @throws WeftError if nothing is known yet that could be changed
   */
  async enforce(): Promise<void> {
    await this.#enforcement.follow();
    const waiting = this.#environment.feed.waitsFor();
    if (waiting) throw waiting;
    // The store was away when a deletion failed, or when it was begun.
    const left = this.#enforcement.deletions.of(this.#environment.hostName).filter((key) => !this.#deleting.has(key));
    if (left.length > 0) await this.#unmark(left).catch(() => {});
  }

  /** @param also what is stored with it */
  async #store(draft: FileDraft, resources: readonly Resource[], also?: Transaction): Promise<void> {
    const { prepare, onEnforced } = this.#environment;
    try {
      await prepare(resources);
      if (!draft.isEmpty || also) await this.#storeDraft(draft, also);
    } catch (error) {
      await onEnforced();
      throw error;
    }
  }

  async #storeDraft(draft: FileDraft, also: Transaction = {}): Promise<void> {
    const own = await draft.keep(this.#environment.feed.store);
    let isStored = false;
    try {
      await this.#writes.write(joined(own.transaction, draft.transaction(), also), (revision) => {
        own.stored(revision);
        draft.stored(revision);
        isStored = true;
      });
    } catch (error) {
      if (!isStored && !isUnanswered(error)) await own.takeBack();
      if (error instanceof PlanAgain && (await this.#isOvertaken(draft))) throw error.cause;
      throw error;
    }
  }

  /** True if somebody else has declared one of its resources anew, who must not be overwritten without a word. */
  async #isOvertaken(draft: FileDraft): Promise<boolean> {
    for (const [key, before] of draft.changed()) {
      const entry = await this.#environment.feed.get(key);
      const { resource } = Object(entry?.value) as { readonly resource?: unknown };
      if (entry && !isDeepStrictEqual(resource, before)) return true;
    }
    return false;
  }

  /** Tries again what was declared before. @returns the resources that this repaired */
  async #retry(resources: readonly Resource[], actions: readonly ApplyReport['action'][]): Promise<Set<Resource>> {
    const known = resources.filter((_, at) => actions[at] !== 'created');
    const mended = new Set<Resource>();
    for (const { kind } of kinds) {
      const retry = this.#environment.reconcilers.get(kind)!.retry?.bind(this.#environment.reconcilers.get(kind)!);
      const of = known.filter((resource) => resource.kind === kind);
      if (!retry || of.length === 0) continue;
      const names = new Set(await retry(of.map(({ metadata }) => idOf(metadata))));
      for (const resource of of) if (names.has(idOf(resource.metadata))) mended.add(resource);
    }
    return mended;
  }

  *#all(): Iterable<Declared> {
    for (const reconciler of this.#environment.reconcilers.values()) yield* reconciler.all();
  }
}

async function plan(draft: FileDraft, ordered: readonly Resource[]): Promise<readonly ApplyReport['action'][]> {
  const actions: ApplyReport['action'][] = [];
  for await (const one of inTurns(ordered, PLANNED_PER_TURN, weightOf)) actions.push(await draft.apply(one));
  return actions;
}

/** A namespace means nothing to kinds whose names are unique in the cluster. */
function idIn({ isNamespaced }: KindDefinition, { name, namespace }: ResourceName): string {
  return isNamespaced ? idOf({ name, namespace }) : name;
}

/** For reports. */
function nameIn({ isNamespaced }: KindDefinition, id: string): ResourceName {
  return isNamespaced ? nameOf(id) : { name: id };
}
