/** Names that runtimes give to containers, as names of endpoints. */

export const LONGEST_NAME = 63;

/** The nearest name to a text (RFC 1123 label); nothing if it has no letter or digit. */
export function asName(text: string): string {
  const letters = text.toLowerCase().replaceAll(/[^a-z0-9-]+/g, '-');
  return letters.slice(0, LONGEST_NAME).replaceAll(/^-+|-+$/g, '');
}
