/** Flow hooks as programs declare and see them. */
import type { Client } from '../api/client.ts';
import { WEFT_V1 } from '../model/kinds/kind.ts';
import type { ApplyReport, HookReport } from '../model/report.ts';
import { declared } from './manifest.ts';

export interface HookOptions {
  /** What becomes of a flow about which it fails; by default `deny`. */
  readonly onError?: 'deny' | 'allow';
}

export class HooksHandle {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Puts a hook into force on all hosts. @param source its text in TypeScript, with `defineHook` as the default export */
  async apply(name: string, source: string, options: HookOptions = {}): Promise<ApplyReport> {
    const [report] = await this.#client.apply([declared(WEFT_V1, 'Hook', name, { source, ...options }, {})]);
    return report!;
  }

  delete(name: string): Promise<ApplyReport> {
    return this.#client.delete('Hook', name);
  }

  /** Those that are declared, and those in files of this host, in the order in which they are asked. */
  async list(): Promise<HookReport[]> {
    return (await this.#client.status()).hooks;
  }
}
