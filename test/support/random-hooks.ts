/** Flow hooks that make a difference for some of the frames of random tests. */
import type { Changes } from '../../src/table/changes.ts';
import { hookGroups, Hooks, type FlowHook, type HookGroup } from '../../src/table/hooks.ts';
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
        return { kind: 'verdict', verdict: 'balance', weights, read };
      }
      const kind = hash % 16;
      if (kind === 0) return { kind: 'failed', why: reason, read };
      const verdict = kind === 1 ? 'deny' : kind === 2 ? 'reject' : 'allow';
      return { kind: 'verdict', verdict, reason, read };
    },
  };
}
