/**
 * Tests that need root (for namespaces, TAPs, port 4789) are skipped without it:
 * `t.test('…', { skip: needsRoot }, async (t) => { … })`.
 */
export const needsRoot: string | false = process.getuid?.() === 0 ? false : 'needs root';
