/**
 * The daemon's messages name fields of requests and resources; these functions make them name the options that were
 * typed.
 */
import { WeftError } from '../error.ts';

/** An option, and the texts that were given for it. */
export type NamedOption = readonly [option: string, ...texts: readonly string[]];

/**
 * Returns what `call` returns. An error about a field that `options` lists is turned into an error about that option,
 * with the text that was given if the option can have several.
 * @throws WeftError
 */
export async function namingOptions<T>(
  options: Readonly<Record<string, NamedOption>>,
  call: () => Promise<T>,
): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof WeftError) || error.code !== 'invalid') throw error;
    const [, field = '', index, inner, text] =
      /^(?:spec\.|metadata\.)?(\w+)(?:\[(\d+)\])?((?:\.[^\s:]+)*)(?:: | (?=is ))(.*)$/s.exec(error.message) ?? [];
    const named = Object.hasOwn(options, field) ? options[field] : undefined;
    if (!named || text === undefined) throw error;
    const [option, ...texts] = named;
    const given = inner && index !== undefined ? texts[Number(index)] : undefined;
    const place = [given === undefined ? option : `${option} ${given}`, ...(inner ? [inner.slice(1)] : [])];
    throw new WeftError(error.code, `${place.join(': ')}: ${text}`, { cause: error });
  }
}
