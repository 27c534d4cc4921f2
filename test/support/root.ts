/**
 * Tests that need the rights of root (namespaces, TAPs, port 4789) are skipped
 * without: `t.test('…', { skip: needsRoot }, async (t) => { … })`.
 */
export const needsRoot: string | false = process.getuid?.() === 0 ? false : 'needs root';
