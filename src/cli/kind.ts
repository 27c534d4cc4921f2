/** Kinds of resources on the command line: any case, singular or plural. */
import type { Command } from 'commander';
import { didYouMean } from '../model/nearest.ts';
import type { Kind } from '../model/resource.ts';

/** In the order in which they are created: what others refer to comes first. */
export const kindOrder = ['Network', 'Host', 'Endpoint'] as const satisfies readonly Kind[];

export function parseKind(text: string, command: Command): Kind {
  const wanted = text.toLowerCase().replace(/s$/, '');
  const kind = kindOrder.find((known) => known.toLowerCase() === wanted);
  if (kind === undefined) {
    command.error(
      `error: "${text}" is not a kind${didYouMean(text, kindOrder) || ';'} there are ${kindOrder.join(', ')}`,
    );
  }
  return kind;
}
