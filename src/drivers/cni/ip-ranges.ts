/**
 * The capability `ipRanges` (CNI's conventions): a list of sets of ranges. A container gets one address of each set, the first that
 * is free, in the order of its ranges; or the one that it asks for by `ips`, which has to be in one of them.
 */
import type { Network } from '../../cluster/network.ts';
import { PlanAgain } from '../../cluster/plan-again.ts';
import { WeftError } from '../../error.ts';
import { addressText, addressValue, isWithin, parseSubnet, type AddressRange } from '../../model/address.ts';
import { quote } from '../../model/value.ts';
import type { RuntimeConfig } from './configuration.ts';
import { CNI_CODES, CniFailure } from './failure.ts';

export type IpRanges = NonNullable<RuntimeConfig['ipRanges']>;

type Pool = Network['pools'][number];

interface Range extends AddressRange {
  readonly pool: Pool;
}

/** Addresses that nobody has and that are not free either, since they rest. So many are tried in a set. */
const MOST_REFUSED = 1024;

/**
 * @param endpoint the name of the one that gets them @param asked for by name
 * @throws CniFailure; WeftError('exhausted') if a set has no free address
 */
export function addressesFrom(
  sets: IpRanges,
  {
    network,
    endpoint,
    asked,
  }: { readonly network: Network; readonly endpoint: string; readonly asked: readonly string[] },
): string[] {
  const ranges = sets.map((set, at) => set.map((range, index) => rangeOf(range, network, `${PATH}[${at}][${index}]`)));
  const left = new Set(asked.map(addressValue));
  const taken = new Set<bigint>();
  for (const set of ranges) {
    const wanted = [...left].find((value) => set.some((range) => isIn(value, range)));
    const value = wanted ?? firstFree(set, { endpoint, taken, network });
    left.delete(value);
    taken.add(value);
  }
  for (const value of left) {
    throw new CniFailure(
      CNI_CODES.configuration,
      `ip ${addressText(value)} is in no set of ${PATH} that is not used up`,
    );
  }
  return [...taken].map(addressText);
}

const PATH = 'runtimeConfig.ipRanges';

function rangeOf(
  { subnet, rangeStart, rangeEnd, gateway }: IpRanges[number][number],
  network: Network,
  path: string,
): Range {
  const refuse = (why: string): never => {
    throw new CniFailure(CNI_CODES.configuration, `${path}${why}`);
  };
  const { first, last } = parseSubnet(subnet);
  const pool =
    network.pools.find(({ addresses }) => isWithin({ first, last }, addresses)) ??
    refuse(`.subnet: ${quote(subnet)} is in no subnet of network "${network.name}": ${subnetsOf(network)}`);
  const end = (key: string, given: string | undefined, otherwise: bigint): bigint => {
    const value = given === undefined ? otherwise : addressValue(given);
    return isIn(value, { first, last }) ? value : refuse(`.${key}: ${given} is outside ${subnet}`);
  };
  const range = { first: end('rangeStart', rangeStart, first), last: end('rangeEnd', rangeEnd, last), pool };
  if (range.first > range.last) refuse(`: rangeStart ${rangeStart} is above rangeEnd ${rangeEnd}`);
  if (gateway !== undefined && gateway !== pool.gateway) {
    refuse(
      `.gateway: ${gateway} is not the gateway of network "${network.name}" in ${pool.subnet}, which is ${pool.gateway}`,
    );
  }
  return range;
}

function subnetsOf({ pools }: Network): string {
  return `it has ${pools.map(({ subnet }) => subnet).join(' and ')}`;
}

function isIn(value: bigint, { first, last }: AddressRange): boolean {
  return first <= value && value <= last;
}

function firstFree(
  set: readonly Range[],
  {
    endpoint,
    taken,
    network,
  }: { readonly endpoint: string; readonly taken: ReadonlySet<bigint>; readonly network: Network },
): bigint {
  const others: { readonly pool: Pool; readonly value: bigint }[] = [];
  let refused = 0;
  /** @throws PlanAgain if its host would have to give it up */
  const isPossible = (pool: Pool, value: bigint): boolean => {
    try {
      pool.check(endpoint, addressText(value));
      return true;
    } catch (error) {
      if (!(error instanceof WeftError) || error instanceof PlanAgain) throw error;
      refused++;
      return false;
    }
  };
  for (const { first, last, pool } of set) {
    for (let value = first; value <= last && refused < MOST_REFUSED; value++) {
      // As many of others' are known as will be tried.
      const block = others.length < MOST_REFUSED ? undefined : pool.othersBlock?.(value);
      if (block) {
        value = block.last;
        continue;
      }
      if (taken.has(value) || pool.ownerOf(value) !== undefined) continue;
      // Better one for which nobody has to be asked.
      if (!pool.isOthers?.(value)) {
        if (isPossible(pool, value)) return value;
      } else if (others.length < MOST_REFUSED) others.push({ pool, value });
    }
  }
  for (const { pool, value } of others) if (isPossible(pool, value)) return value;
  const texts = set.map(({ first, last }) => `${addressText(first)}-${addressText(last)}`);
  throw new WeftError('exhausted', `network "${network.name}" has no free address in ${texts.join(', ')} (${PATH})`);
}
