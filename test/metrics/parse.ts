/**
 * Reads metrics as Prometheus does, and refuses what it refuses: the text format 0.0.4, and OpenMetrics 1.0.
 * https://prometheus.io/docs/instrumenting/exposition_formats, https://prometheus.io/docs/specs/om/open_metrics_spec
 */
export interface Parsed {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  /** By the labels as they are written, `{a="b"}`; empty without labels. */
  readonly values: ReadonlyMap<string, number>;
}

const LABEL = String.raw`[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"`;
const SAMPLE = new RegExp(String.raw`^([a-zA-Z_:][\w:]*)(\{${LABEL}(?:,${LABEL})*\})? (\S+)$`);

/** @throws Error that names the line */
export function parseMetrics(text: string, format: 'prometheus' | 'openmetrics'): Map<string, Parsed> {
  const isOpen = format === 'openmetrics';
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const lines = text.slice(0, -1).split('\n');
  if (isOpen && lines.pop() !== '# EOF') throw new Error('# EOF is missing');
  const found = new Map<string, Parsed & { values: Map<string, number> }>();
  let help: { name: string; text: string } | undefined;
  let current: (Parsed & { values: Map<string, number> }) | undefined;
  for (const line of lines) {
    const fail = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (keyword === 'HELP') {
      help = { name, text: rest };
      continue;
    }
    if (keyword === 'TYPE') {
      const full = isOpen && rest === 'counter' ? `${name}_total` : name;
      if (help?.name !== name) fail('no HELP before it');
      if (found.has(full)) fail('a second time');
      if (rest !== 'counter' && rest !== 'gauge') fail('unknown type');
      if (rest === 'counter' && !full.endsWith('_total')) fail('a counter ends with _total');
      if (rest === 'gauge' && full.endsWith('_total')) fail('a gauge does not end with _total');
      current = { name: full, type: rest, help: help!.text, values: new Map() };
      found.set(full, current);
      continue;
    }
    if (line === '' && !isOpen) continue;
    const [, sample, labels = '', number = ''] = SAMPLE.exec(line) ?? fail('not a sample');
    if (sample !== current?.name) fail('of another metric than the one above');
    if (current!.values.has(labels)) fail('a second time');
    const value = number === '+Inf' ? Infinity : Number(number);
    if (Number.isNaN(value) || number === '') fail('not a number');
    if (current!.type === 'counter' && !(value >= 0)) fail('a counter below 0');
    current!.values.set(labels, value);
  }
  for (const { name, values } of found.values()) if (values.size === 0) throw new Error(`${name} has no sample`);
  return found;
}
