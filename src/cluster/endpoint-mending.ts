/**
 * Compares the interfaces of this host's endpoints with what they were given, repairs them, and keeps what they have been
 * given since. What it finds but leaves is in `problems`.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Mended } from './attachments.ts';
import { hasPlace, withCookie, type Endpoint } from './endpoint.ts';
import type { EndpointParts } from './endpoint-placing.ts';

/** How many interfaces are compared in one turn of the event loop; takes about 10 ms. */
const MENDED_AT_ONCE = 100;

/** What is wrong with a detached endpoint, and how to fix it. Undefined if it is not to have an interface now. */
export function lostText({ state, resource, local }: Endpoint): string | undefined {
  if (state !== 'detached') return undefined;
  if (hasPlace(resource)) return 'its interface is not there any more: attach it again';
  return (
    local && 'its interface is not there any more: disconnect the container from the network, and connect it again'
  );
}

export class EndpointMending {
  readonly #parts: EndpointParts;

  constructor(parts: EndpointParts) {
    this.#parts = parts;
  }

  /** Compares all interfaces with what they were given, and repairs them. */
  async mend(names?: readonly string[]): Promise<readonly Mended[]> {
    const left = [...(names ?? this.#parts.index.here().map(({ name }) => name))];
    const results: Mended[] = [];
    while (left.length > 0) {
      const some = this.#parts.index.local(left.splice(0, MENDED_AT_ONCE));
      results.push(...(await this.#remember(await this.#parts.attachments.mend(some))));
    }
    return results;
  }

  /** Does the same with some of them, in turn. What has just begun to lack something is left to whoever is at work on it. */
  async mendSome(): Promise<void> {
    const { attachments, index } = this.#parts;
    await this.#remember(await attachments.mend(index.local(attachments.due()), { isPatient: true }));
  }

  /** Does the same without repairing anything. @returns what is wrong, by endpoint */
  async inspect(): Promise<Record<string, string[]>> {
    const lost = this.#parts.index.here().flatMap((endpoint): [string, string[]][] => {
      const why = lostText(endpoint);
      return why === undefined ? [] : [[endpoint.name, [why]]];
    });
    return {
      ...Object.fromEntries(lost),
      ...this.problems(),
      ...(await this.#parts.attachments.inspect(this.#parts.index.local())),
    };
  }

  /** What the last check found wrong with interfaces of this host, and why other endpoints wait. */
  problems(): Record<string, string[]> {
    const found = this.#parts.attachments.problems();
    const others = [...this.#parts.failures].filter(([name]) => !Object.hasOwn(found, name));
    return { ...Object.fromEntries(others.map(([name, { message }]) => [name, [message]])), ...found };
  }

  /** Stores what was given if it has changed. */
  async #remember(results: readonly Mended[]): Promise<readonly Mended[]> {
    const news = results.flatMap(({ endpoint: { name }, given }) => {
      const known = this.#parts.index.find(name);
      if (!known?.local) return [];
      const stored = this.#parts.records.find(name);
      const local = withCookie({ ...known.local, given }, this.#parts.attachments.cookie(name));
      const isSame = isDeepStrictEqual(known.local, local) && stored?.ifindex === local.ifindex;
      return isSame ? [] : [{ ...known, local }];
    });
    if (!(await this.#parts.records.trySave(new Map(news.map(({ name, local }) => [name, local]))))) return results;
    for (const endpoint of news) {
      this.#parts.failures.delete(endpoint.name);
      this.#parts.index.set(endpoint);
    }
    return results;
  }
}
