/**
 * What-if: what would be if resources were applied. Nothing is changed, and nothing is put into force. With a shared store, all hosts
 * are asked (`what-if-hosts.ts`).
 *
 *   resources      what of them would be created or changed, field by field
 *   policy tests   those that would fail, for which the change would be refused
 *   connections    those of this host that policies would end, judged as the sweep judges them afterwards (`control/sweep.ts`): each
 *                  host judges its own end
 *   flow classes   conversations of the last 7 days (`classes/`), open or not, of which policies would say something else
 *   services       connections that would lose their backend, and conversations that would go elsewhere (`what-if-services.ts`)
 */
import type { ChangedResource, Cluster } from '../cluster/cluster.ts';
import { isHere } from '../cluster/endpoint.ts';
import type { PolicyTests } from '../cluster/policies/policy-tests.ts';
import type { ProposedPolicies } from '../cluster/policies/proposed-policies.ts';
import type { ProposedServices } from '../cluster/services/proposed-services.ts';
import type { Questions } from '../cluster/membership/questions.ts';
import { noChange, type ProposedChange } from '../cluster/proposed-change.ts';
import { MOST_JUDGED, MOST_TOLD, TURN_JUDGED, TURN_SCANNED } from '../control/judging-limits.ts';
import { changeOfRecord, recordOf } from '../cluster/proposed-record.ts';
import { protocolName, type ConnectionRecords } from '../flow/connection.ts';
import { OVER } from '../flow/connection-state.ts';
import { summaryOf } from '../forwarding/packet-judgement.ts';
import type {
  ClassChangeReport,
  CutReport,
  DiffReport,
  HostDiffReport,
  PolicyTestReport,
} from '../model/policy-report.ts';
import type { Resource } from '../model/resource.ts';
import { denialOf, isDenied, type Denial, subjectsOf } from '../pipeline/open-connections.ts';
import type { Tables } from '../pipeline/stage.ts';
import { judgementText } from '../pipeline/policy-text.ts';
import { renderText } from '../pipeline/text.ts';
import type { PolicyLookup } from '../table/policies.ts';
import { eachInTurns, nextTurn } from '../turns.ts';
import { judgeClass } from './classes/class-judgement.ts';
import type { ClassKeeper } from './classes/class-keeper.ts';
import type { ClassEnd, FlowClass } from './classes/flow-class.ts';
import { fieldChanges } from './field-changes.ts';
import { boundedAnswer, withAnswers } from './what-if-hosts.ts';
import { servicesAfter } from './what-if-services.ts';
import { endReport } from './what-if-text.ts';

export interface WhatIfEnvironment {
  readonly cluster: () => Pick<Cluster, 'propose'>;
  readonly tests: Pick<PolicyTests, 'run'>;
  readonly propose: (change: ProposedChange) => ProposedPolicies;
  readonly proposeServices: (change: ProposedChange) => ProposedServices;
  readonly records: ConnectionRecords;
  readonly classes: Pick<ClassKeeper, 'now' | 'report'>;
  /** The name of this host. */
  readonly host: string;
  /** Undefined without a shared store. */
  readonly questions: Pick<Questions, 'ask'> | undefined;
  /** What is in force. */
  readonly tables: Pick<Tables, 'policies' | 'topology' | 'neighbors' | 'fdb' | 'services'>;
}

/** How many classes of flows one turn of the event loop judges. */
const TURN_CLASSES = 256;
/** How many fields of one resource are told. */
const MOST_FIELDS = 64;

export class WhatIf {
  readonly #environment: WhatIfEnvironment;

  constructor(environment: WhatIfEnvironment) {
    this.#environment = environment;
  }

  /** What the PolicyTests say, those of the resources and those that are stored. @throws WeftError if they cannot be applied */
  policyTests(resources: readonly Resource[]): Promise<PolicyTestReport[]> {
    const { cluster, tests } = this.#environment;
    return cluster().propose(resources, (change) => tests.run(change));
  }

  /** @throws WeftError if they cannot be applied, whatever PolicyTests say */
  async diff(resources: readonly Resource[]): Promise<DiffReport> {
    const { cluster, tests, questions, host } = this.#environment;
    const { asking, here, ...report } = await cluster().propose(resources, async (change, changed) => ({
      // Others take their time meanwhile, and nobody waits for them here: other changes would have to, too.
      asking: questions?.ask(recordOf(change, host)),
      resources: changed.map(resourceReport),
      policyTests: (await tests.run(change)).filter(({ result }) => result === 'failed'),
      here: await this.#here(change),
    }));
    return { ...report, ...(asking ? withAnswers(host, here, await asking) : { ...here, hosts: [] }) };
  }

  /** What this host says to another one, which proposes a change. @param question of `recordOf` */
  async answer(question: unknown): Promise<object> {
    let change: ProposedChange;
    try {
      change = changeOfRecord(question, this.#environment.host);
    } catch {
      return { why: 'it does not understand the change, which a later version of weft may have written' };
    }
    return boundedAnswer(await this.#here(change));
  }

  /** What policies of this host would say, and end. */
  async #here(change: ProposedChange): Promise<HostDiffReport> {
    const { classes, propose, proposeServices } = this.#environment;
    const [before, after] = [propose(noChange), propose(change)];
    const connections = await this.#connections(after);
    const known = [...(await classes.now())].sort((a, b) => b.lastSeenMs - a.lastSeenMs);
    const flowClasses = await this.#flowClasses(known, before, after);
    const services = await servicesAfter(this.#environment, proposeServices(change), [before, after], known);
    return { connections, flowClasses, services };
  }

  async #flowClasses(
    known: readonly FlowClass[],
    before: ProposedPolicies,
    after: ProposedPolicies,
  ): Promise<DiffReport['flowClasses']> {
    const { classes, tables } = this.#environment;
    const { topology } = tables;
    const isThere = (endpoint: string): boolean => before.endpoint(endpoint) !== undefined;
    const changed: ClassChangeReport[] = [];
    await eachInTurns(known, TURN_CLASSES, (one) => {
      const then = summaryOf(judgeClass(one, before, topology));
      const now = summaryOf(judgeClass(one, after, topology));
      if (then.verdict !== now.verdict) changed.push(classReport(one, then.verdict, now, isThere));
    });
    const { count, givenUp, passedOver } = classes.report();
    return {
      ...{ count, givenUp, passedOver },
      changed: changed.slice(0, MOST_TOLD),
      more: Math.max(0, changed.length - MOST_TOLD),
    };
  }

  async #connections(proposed: ProposedPolicies): Promise<DiffReport['connections']> {
    const { records, tables } = this.#environment;
    const after = { ...tables, policies: ofThisHost(proposed) };
    const judged = new Map<string, Denial | undefined>();
    const cuts = new Map<string, CutReport>();
    let [live, more, judgedInTurn] = [0, 0, 0];
    for (let slot = 0; slot < records.ready; slot++) {
      if (slot % TURN_SCANNED === TURN_SCANNED - 1 || judgedInTurn >= TURN_JUDGED) {
        judgedInTurn = 0;
        await nextTurn();
      }
      const generation = records.generation(slot);
      if (generation === 0 || generation % 2 !== 0 || OVER.has(records.state(slot))) continue;
      const id = records.classId(slot);
      if (!judged.has(id)) {
        if (judged.size >= MOST_JUDGED) judged.clear();
        const connection = records.read(slot);
        const subjects = subjectsOf(connection, slot, records, tables);
        const before = denialOf(connection, tables, undefined, subjects);
        const denial = denialOf(connection, after, undefined, subjects);
        // While it was read, a thread of the datapath may have closed it and opened another one there.
        if (records.generation(slot) !== generation) continue;
        judgedInTurn++;
        judged.set(id, isDenied(denial) && !isDenied(before) ? denial : undefined);
      }
      live++;
      const denial = judged.get(id);
      if (!denial) continue;
      const known = cuts.get(id);
      if (known) known.connections++;
      else if (cuts.size < MOST_TOLD) cuts.set(id, cutReport(denial));
      else more++;
    }
    return { live, ended: [...cuts.values()], more };
  }
}

/** Of endpoints of other hosts, those hosts judge. */
function ofThisHost(proposed: ProposedPolicies): PolicyLookup {
  return {
    setOf: (name, direction) => {
      const endpoint = proposed.endpoint(name);
      return endpoint && isHere(endpoint) ? proposed.setOf(name, direction) : undefined;
    },
    peerAt: (address, vni) => proposed.peerAt(address, vni),
    dns: proposed.dns,
  };
}

function cutReport({ direction, protocol, l4Port, from, to, judgement }: Denial): CutReport {
  return {
    ...{ from: endReport(from), to: endReport(to), protocol: protocolName(protocol), port: l4Port, verdict: 'deny' },
    because: `${direction}: ${renderText(judgementText(judgement))}`,
    connections: 1,
  };
}

function classReport(
  one: FlowClass,
  before: ClassChangeReport['before'],
  { verdict, because }: Pick<ClassChangeReport, 'verdict' | 'because'>,
  isThere: (endpoint: string) => boolean,
): ClassChangeReport {
  const end = (one: ClassEnd): ClassChangeReport['from'] =>
    endReport({ ...one, isGone: one.isGone || (one.endpoint !== undefined && !isThere(one.endpoint)) });
  const { from, to, protocol, l4Port, level, opened, denied, firstSeenMs, lastSeenMs } = one;
  return {
    ...{ from: end(from), to: end(to), protocol: protocolName(protocol), port: l4Port },
    ...{ before, verdict, because, covers: level, opened, denied },
    firstSeen: new Date(firstSeenMs).toISOString(),
    lastSeen: new Date(lastSeenMs).toISOString(),
  };
}

function resourceReport({ action, before, after }: ChangedResource): DiffReport['resources'][number] {
  const { kind, metadata } = after;
  const fields = before ? [...fieldChanges(before, after)] : [];
  return {
    kind,
    name: metadata.name,
    ...(metadata.namespace !== undefined && { namespace: metadata.namespace }),
    action,
    fields: fields.slice(0, MOST_FIELDS),
    more: Math.max(0, fields.length - MOST_FIELDS),
  };
}
