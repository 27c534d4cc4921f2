/** Flow hooks that make a difference for some of the frames of random tests. */
import type { Changes } from '../../src/table/changes.ts';
import { hookGroups, Hooks, type FlowHook, type HookGroup, type WantedTreatment } from '../../src/table/hooks.ts';
import type { Random } from './random.ts';

/** Up to two, or none. */
export function randomHooks(random: Random, changes: Changes): Hooks {
  const hooks = new Hooks(changes);
  hooks.set(['a', 'b'].filter(() => random.chance(0.15)).map((name) => randomHook(random, name)));
  return hooks;
}

/** Reads up to three groups, one after the other as their values say, and answers by these. */
function randomHook(random: Random, name: string): FlowHook {
  const salt = random.u32();
  const most = random.int(4);
  return {
    name,
    onError: random.pick(['deny', 'allow'] as const),
    ask(question) {
      const values = JSON.parse(question) as readonly unknown[];
      const read: HookGroup[] = [];
      let hash = salt;
      for (let n = 0; n < most; n++) {
        const at = hash % hookGroups.length;
        const group = hookGroups[at]!;
        if (!read.includes(group)) read.push(group);
        for (const character of `${JSON.stringify(values[at])}${n}`)
          hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193) >>> 0;
      }
      const reason = read.join();
      const backends = read.includes('backends') ? (values[hookGroups.indexOf('backends')] as unknown[]) : [];
      if (backends.length > 0 && hash % 3 === 0) {
        const weights = backends.map((_, at) => (at === hash % backends.length ? 1 : (hash >>> at) % 3));
        return { kind: 'verdict', verdict: 'balance', weights, read, ...treatmentBy(hash) };
      }
      const kind = hash % 16;
      if (kind === 0) return { kind: 'failed', why: reason, read };
      if (kind === 1 || kind === 2) return { kind: 'verdict', verdict: kind === 1 ? 'deny' : 'reject', reason, read };
      return { kind: 'verdict', verdict: 'allow', reason, read, ...treatmentBy(hash) };
    },
  };
}

/** Nothing, or some of what can be set. */
function treatmentBy(hash: number): { readonly treatment?: WantedTreatment } {
  const bit = (at: number): boolean => ((hash >>> at) & 1) === 1;
  if (bit(8)) return {};
  const rate = { by: String(hash % 3), kbits: bit(9) ? 100 : 0, packets: bit(10) ? 100 : 0 };
  return { treatment: { mark: bit(11) ? hash % 7 : 0, ...(bit(12) && { dscp: hash % 64 }), ...(bit(13) && { rate }) } };
}
