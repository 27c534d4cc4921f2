/**
 * Balancing: which of the candidates a new connection gets.
 *
 * A choice is a function of the tables and the tuple of the connection, and changes nothing. What it should change happens
 * when the connection is really open (`opened`): the position of round robin, and the counts of connections.
 *
 *   maglev             the hash of the tuple, in a table of slots (`maglev.ts`)
 *   round-robin        one after the other; with different weights, one slot of such a table after the other
 *   least-connections  who has the fewest connections for its weight, on this host
 *   random             the hash of the tuple and of the position, in such a table
 *   source-hash        the hash of the client's address, in such a table
 *
 * A *scope* is all clients of a network that ask a port of a service for an address of one family: they have the same
 * candidates. What is known for a scope is made when its first client comes, and anew when something has changed that
 * it was made of. All scopes together have a limit; beyond it, who was used the longest ago is forgotten. Then its next
 * table may differ from the last one, which only new connections notice.
 */
import { clientHash, tupleHash } from '../flow/balancing.ts';
import { mixed, mixIn, HASH_SEED } from '../flow/hash.ts';
import type { ProtocolTuple } from '../flow/connection.ts';
import type { PinnedBackend } from './backends.ts';
import type { Candidates } from './candidates.ts';
import { MaglevTable } from './maglev.ts';
import type { FoundPort } from './service-addresses.ts';
import type { Backend, BalancingMethod, Service, ServicePort, Spread } from './service.ts';

/** Who may be chosen, and who may not and why. It stays as it is, and is kept with the connections that it decided. */
export interface BackendSelection {
  readonly service: Service;
  readonly port: ServicePort;
  /** The subset that they are in; undefined: the whole service. */
  readonly subset: string | undefined;
  /** How connections are spread over the candidates. */
  readonly spread: Spread;
  readonly candidates: readonly Candidate[];
  readonly excluded: Candidates['excluded'];
  /** `no_route`: the routes of the service lead to what is not there. */
  readonly refusal: Candidates['refusal'] | 'no_route';
  /** The objects that it was made of: the service, and routes from the client to the backends. */
  readonly consulted: readonly string[];
}

/** Whether anybody may be chosen; with a refusal, who was excluded. */
export type Eligibility = Pick<BackendSelection, 'consulted' | 'refusal' | 'excluded'>;

export interface Candidate {
  readonly backend: Backend;
  readonly weight: number;
  /** Its port, for the first port of a range. */
  readonly target: number;
  /** The number of its connections. */
  readonly pinned: PinnedBackend;
}

/** What is known for all clients that have the same candidates. */
export interface Scope {
  selection: BackendSelection;
  /** Made from the candidates of `tableOf`. */
  table: MaglevTable | undefined;
  tableOf: BackendSelection | undefined;
  /** How many connections it has been chosen for. */
  position: number;
  /** The id of the table by which the datapath chooses in the same way; undefined if it does not. */
  balancing: number | undefined;
}

/** @param scope its selection has candidates */
export function pick(scope: Scope, tuple: ProtocolTuple, method: BalancingMethod): Candidate {
  const { selection, position } = scope;
  const { candidates } = selection;
  if (candidates.length === 1) return candidates[0]!;
  switch (method) {
    case 'maglev':
      return inTable(scope, tupleHash(tuple, 0));
    case 'round-robin':
      return hasEqualWeights(candidates)
        ? candidates[position % candidates.length]!
        : inTable(scope, position % tableOf(scope).size);
    case 'least-connections':
      return leastConnections(candidates, tupleHash(tuple, 0));
    case 'random':
      return inTable(scope, tupleHash(tuple, position + 1));
    case 'source-hash':
      return inTable(scope, clientHash(tuple));
    default:
      return method satisfies never;
  }
}

/**
 * The same for when some have as many connections as they may: each of the others gets its share.
 * @param candidates those that may have one more, at least one
 */
export function pickAmong(
  candidates: readonly Candidate[],
  { position }: Scope,
  tuple: ProtocolTuple,
  method: BalancingMethod,
): Candidate {
  switch (method) {
    case 'maglev':
      return weighted(candidates, tupleHash(tuple, 0));
    case 'round-robin':
      return candidates[position % candidates.length]!;
    case 'least-connections':
      return leastConnections(candidates, tupleHash(tuple, 0));
    case 'random':
      return weighted(candidates, tupleHash(tuple, position + 1));
    case 'source-hash':
      return weighted(candidates, clientHash(tuple));
    default:
      return method satisfies never;
  }
}

/** The selection for connections whose route leads to what is not there. */
export function nobodyIn({ service, port, object }: FoundPort): BackendSelection {
  const nobody = { candidates: [], excluded: [], refusal: 'no_route' as const, consulted: [object] };
  return { service, port, subset: undefined, spread: service, ...nobody };
}

/** The selection for a connection when only these candidates may have one more. */
export function withoutFull(selection: BackendSelection, open: readonly Candidate[], most: number): BackendSelection {
  const left = new Set(open);
  const full = selection.candidates.filter((candidate) => !left.has(candidate));
  const detail = `${most} at most`;
  const excluded = full.map(({ backend }) => ({ backend, why: 'full' as const, detail }));
  return { ...selection, candidates: open, excluded: [...selection.excluded, ...excluded] };
}

/**
 * True if the same tuple gets the same backend until something changes that the decision consulted: the choice depends
 * neither on other connections nor on what the client had last.
 */
export function isRepeated({
  selection,
  route,
}: {
  readonly selection: BackendSelection;
  readonly route: { readonly affinityMs: number | undefined } | undefined;
}): boolean {
  const { service, spread, candidates } = selection;
  if (spread.maxConnections !== undefined) return false;
  const { affinityMs } = route ?? service;
  if (candidates.length === 1 && (route === undefined || affinityMs === undefined)) return true;
  return affinityMs === undefined && (spread.balancing === 'maglev' || spread.balancing === 'source-hash');
}

/**
 * True if the datapath may choose by a table alone: everybody gets what the hash says, and nobody needs to know which
 * connections have been opened.
 */
export function isBalancedByTable({
  selection,
  route,
}: {
  readonly selection: BackendSelection;
  readonly route: object | undefined;
}): boolean {
  const { service, spread, candidates } = selection;
  if (route !== undefined || service.affinityMs !== undefined || service.outlier !== undefined) return false;
  if (spread.maxConnections !== undefined) return false;
  return candidates.length === 1 || spread.balancing === 'maglev' || spread.balancing === 'source-hash';
}

/** The table of a scope, which is built when it is needed for the first time, from the one before if there is one. */
export function tableOf(scope: Scope): MaglevTable {
  const { selection } = scope;
  if (scope.tableOf === selection) return scope.table!;
  if (!scope.tableOf || !hasSameShares(scope.tableOf, selection)) {
    const backends = selection.candidates.map(({ backend, target, weight, pinned }) => ({
      id: pinned.pin,
      hash: backendHash(backend, target),
      weight,
    }));
    scope.table = MaglevTable.of(backends, scope.table);
  }
  scope.tableOf = selection;
  return scope.table!;
}

/** True if a table that was made of one is right for the other. */
function hasSameShares({ candidates }: BackendSelection, { candidates: others }: BackendSelection): boolean {
  return (
    candidates.length === others.length &&
    candidates.every(({ pinned, weight }, at) => pinned === others[at]!.pinned && weight === others[at]!.weight)
  );
}

function inTable(scope: Scope, hash: number): Candidate {
  return scope.selection.candidates[tableOf(scope).positionAt(hash)]!;
}

/** The one at that place, if each takes as much room as its weight. Hashes have 32 bits. */
export function weighted<T extends { readonly weight: number }>(all: readonly T[], hash: number): T {
  const total = all.reduce((sum, { weight }) => sum + weight, 0);
  let left = (hash / 2 ** 32) * total;
  return all.find(({ weight }) => (left -= weight) < 0) ?? all.at(-1)!;
}

/** Of several that have as few, the hash decides which. */
function leastConnections(candidates: readonly Candidate[], hash: number): Candidate {
  const from = hash % candidates.length;
  let least = candidates[from]!;
  for (let n = 1; n < candidates.length; n++) {
    const other = candidates[(from + n) % candidates.length]!;
    if (load(other) < load(least)) least = other;
  }
  return least;
}

/** How much it would have to do for its weight with one connection more. */
function load({ pinned, weight }: Candidate): number {
  return (pinned.connections + 1) / weight;
}

/** Any number that no count of connections reaches soon. */
const ROUTE = 0x526f_7574;

function hasEqualWeights(candidates: readonly Candidate[]): boolean {
  return candidates.every(({ weight }) => weight === candidates[0]!.weight);
}

/** Tells the destinations of a route apart; it has nothing to do with who is chosen there. */
export function routeHash(tuple: ProtocolTuple, isByClient: boolean): number {
  return isByClient ? mixed(clientHash(tuple) ^ ROUTE) : tupleHash(tuple, ROUTE);
}

function backendHash({ address }: Backend, target: number): number {
  return mixed(Math.imul(mixIn(HASH_SEED, address) ^ target, 0x01000193));
}
