/**
 * What policies say of a flow class, by a state that is proposed or in force: as they would say it of the next conversation like it
 * (`pipeline/open-connections.ts`). Asked is whoever of its ends is on this host.
 *
 *   a workload that is there      with the labels that it has in that state
 *   one that has gone             as one with its labels would be, in its namespace as that state has it
 *   an address that is nobody's   whoever has it in that state
 */
import { isHere } from '../../cluster/endpoint.ts';
import type { ProposedPolicies } from '../../cluster/policies/proposed-policies.ts';
import { INTERNAL, OUTSIDE, type Place } from '../../flow/connection.ts';
import {
  judgeParties,
  peerAt,
  type JudgedCase,
  type JudgingTables,
  type Party,
} from '../../pipeline/open-connections.ts';
import type { ClassEnd, FlowClass } from './flow-class.ts';

export function judgeClass(one: FlowClass, state: ProposedPolicies, topology: JudgingTables['topology']): JudgedCase {
  const { places, protocol, l4Port, meant, from, to } = one;
  const tables = { policies: state, topology };
  // Somebody else is behind that port than who has the address.
  const isBehind = from.endpoint === undefined && from.subject !== undefined;
  return judgeParties(
    {
      ...{ places, protocol, l4Port, meant },
      from: isBehind ? nobody(from, state) : partyOf(from, places[0], tables),
      to: partyOf(to, places[1], tables),
    },
    state,
  );
}

type ClassTables = Pick<JudgingTables, 'topology'> & { readonly policies: ProposedPolicies };

function partyOf(end: ClassEnd, place: Place, tables: ClassTables): Party {
  const { address, endpoint, identity, subject, isGone } = end;
  const { policies } = tables;
  if (endpoint === undefined) {
    if (place === OUTSIDE || place === INTERNAL) return nobody(end, policies);
    return { ...peerAt(place, address, tables), subject: subjectHere(subject, policies) };
  }
  const present = isGone ? undefined : policies.endpoint(endpoint);
  if (present) {
    const judgedFor = isHere(present) ? (subject ?? endpoint) : subject;
    return {
      ...{ address, endpoint, subject: subjectHere(judgedFor, policies) },
      identity: identity && policies.identityOf(present),
    };
  }
  if (!identity) return nobody(end, policies);
  const again = policies.identityAgain(identity);
  const isJudged = subject === endpoint;
  return {
    ...{ address, endpoint, identity: again },
    subject: isJudged ? endpoint : subjectHere(subject, policies),
    setOf: isJudged ? (direction) => policies.setAgain(again, direction) : undefined,
  };
}

function nobody({ address, subject }: ClassEnd, policies: ProposedPolicies): Party {
  return { address, identity: undefined, endpoint: undefined, subject: subjectHere(subject, policies) };
}

/** Of endpoints of other hosts, those hosts judge. */
function subjectHere(name: string | undefined, policies: ProposedPolicies): string | undefined {
  const endpoint = name === undefined ? undefined : policies.endpoint(name);
  return endpoint && isHere(endpoint) ? name : undefined;
}
