/**
 * Reads and changes the interfaces of network namespaces: one visit to a namespace for
 * everything that is read, and one for everything that is changed.
 */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { descriptorsText, WeftError } from '../error.ts';
import type { ExchangeWithNetns, NetnsExchange, NetnsReply } from '../flow/netns-exchange.ts';
import type { NetnsRef } from './netns.ts';
import {
  concatRequests,
  getAddresses,
  getLinks,
  getRoutes,
  readReplies,
  type AddressFacts,
  type LinkFacts,
  type RouteFacts,
  type RtRequest,
} from './rtnetlink.ts';

/** All interfaces of a namespace. */
export interface NamespaceFacts {
  /** What the kernel calls the namespace, and no other one until a reboot; undefined if it has no such names. */
  readonly cookie: string | undefined;
  readonly links: readonly LinkFacts[];
  readonly addresses: readonly AddressFacts[];
  /** The static default routes. */
  readonly routes: readonly RouteFacts[];
}

export interface NamespaceChange {
  readonly ns: NetnsRef;
  readonly settings: NetnsExchange['settings'];
  readonly requests: readonly RtRequest[];
}

const nothing = new Uint8Array();
const questions = [getLinks(), getAddresses(), getRoutes(4), getRoutes(6)];
const questionBytes = concatRequests(questions);

/** Reads several namespaces in one go. A namespace that could not be read has an error in its place. */
export async function readNamespaces(
  exchange: ExchangeWithNetns,
  refs: readonly NetnsRef[],
): Promise<(NamespaceFacts | WeftError)[]> {
  const replies = await exchange(refs.map((ns) => ({ ...ns, settings: [], requests: questionBytes })));
  return replies.map(({ result, cookie, replies: bytes }, at) => {
    if (result !== 0) return entryError(refs[at]!, -result);
    const { errors, ...facts } = readReplies(bytes);
    // A namespace has no routing table before it has a route.
    const [failed] = [...errors].filter(([, errno]) => errno !== constants.errno.ENOENT);
    return failed ? requestError(refs[at]!, questions[failed[0]]!, failed[1]) : named(facts, cookie);
  });
}

function named(facts: Omit<NamespaceFacts, 'cookie'>, cookie: bigint): NamespaceFacts {
  return { cookie: cookie === 0n ? undefined : String(cookie), ...facts };
}

/**
 * Makes changes in several namespaces in one go. Each change is tried, whether or not the one before it failed.
 * @returns for each namespace what failed, beginning with entering it; nothing if everything was done
 */
export async function changeNamespaces(
  exchange: ExchangeWithNetns,
  changes: readonly NamespaceChange[],
): Promise<WeftError[][]> {
  const replies = await exchange(
    changes.map(({ ns, settings, requests }) => ({
      ...ns,
      settings,
      requests: requests.length === 0 ? nothing : concatRequests(requests),
    })),
  );
  return replies.map((reply, at) => failures(changes[at]!, reply));
}

function failures({ ns, settings, requests }: NamespaceChange, reply: NetnsReply): WeftError[] {
  if (reply.result !== 0) return [entryError(ns, -reply.result)];
  const { errors } = readReplies(reply.replies);
  return [
    ...settings.flatMap(({ path, value }, at) => {
      const errno = -(reply.settings[at] ?? 0);
      if (errno === 0) return [];
      return [new WeftError('system', `${path} in ${ns.path} cannot be set to ${value} (${errnoText(errno)})`)];
    }),
    ...[...errors].map(([at, errno]) => requestError(ns, requests[at]!, errno)),
  ];
}

function requestError(ns: NetnsRef, { text }: RtRequest, errno: number): WeftError {
  return new WeftError('system', `\`ip ${text}\` in ${ns.path} failed (${errnoText(errno)})`);
}

function entryError({ path }: NetnsRef, errno: number): WeftError {
  const { ENOENT, ENOTDIR, ESRCH, ESTALE, ENOTTY } = constants.errno;
  if ([ENOENT, ENOTDIR, ESRCH, ESTALE, ENOTTY].includes(errno)) {
    return new WeftError('not_found', `network namespace ${path} does not exist any more`);
  }
  const name = errnoText(errno);
  const missing = descriptorsText(name);
  if (missing !== undefined) {
    return new WeftError('exhausted', `network namespace ${path} cannot be entered: ${missing}`);
  }
  return new WeftError('system', `network namespace ${path} cannot be entered (${name}); run weft as root`);
}

function errnoText(errno: number): string {
  return getSystemErrorName(-errno);
}
