/**
 * Runs the documents in this folder, each on both datapaths. A `weft` block is a
 * script for a simulated network (`lab.ts` lists its commands), and the `text`
 * block after it is what it must print. A block without a `text` block after it
 * prints nothing.
 *
 * `UPDATE=1 node --import=tsx test/transcripts/transcripts.test.ts` rewrites the
 * documents. Read them before you commit them.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { openNativeDatapath } from '../../src/datapath/native/native.ts';
import { openReferenceDatapath } from '../../src/datapath/reference/reference.ts';
import { Lab, type Open } from './lab.ts';

const directory = new URL('.', import.meta.url);
const block = /```weft\n([\s\S]*?)```\n(\s*)(?:```text\n([\s\S]*?)```\n)?/g;

const datapaths: Readonly<Record<string, Open>> = {
  reference: openReferenceDatapath,
  native: (options) => openNativeDatapath({ ...options, threads: 0 }),
};

const files = readdirSync(directory)
  .filter((name) => name.endsWith('.md'))
  .sort();

for (const file of files) {
  const path = new URL(file, directory);
  const document = readFileSync(path, 'utf8');
  for (const [name, open] of Object.entries(datapaths)) {
    const found = run(document, open);
    if (process.env['UPDATE'] && name === 'reference') writeFileSync(path, found);
    t.equal(found, readFileSync(path, 'utf8'), `${file} on ${name}`);
  }
}

/** The document with what its blocks print now. */
function run(document: string, open: Open): string {
  const lab = new Lab(open);
  try {
    const found = document.replace(block, (_all, script: string, gap: string, before: string | undefined) => {
      const printed = paragraphs(script.split('\n').map((line) => lab.run(line.trim())));
      const text = printed === '' ? '' : `\n\`\`\`text\n${printed}\n\`\`\`\n`;
      return `\`\`\`weft\n${script}\`\`\`\n${text}${before === undefined ? gap : ''}`;
    });
    lab.check();
    return found;
  } finally {
    lab.close();
  }
}

/** What the lines of a block print; a result with empty lines in it stands apart. */
function paragraphs(printed: readonly string[]): string {
  const texts = printed.filter((text) => text !== '');
  const isLong = (text: string | undefined) => text?.includes('\n\n') ?? false;
  return texts
    .map((text, at) => (at === 0 ? text : `${isLong(text) || isLong(texts[at - 1]) ? '\n\n' : '\n'}${text}`))
    .join('');
}
