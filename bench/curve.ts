/** Curves as SVG files that stand alone: how figures grow with a size, which is on a logarithmic axis. */
import { dot, lineY, plot, ruleY, text } from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { number } from './format.ts';

export interface Series {
  readonly label: string;
  readonly points: readonly { readonly at: number; readonly value: number }[];
}

export interface CurveOptions {
  readonly title: string;
  /** The labels of the axes. */
  readonly size: string;
  readonly unit: string;
  readonly series: readonly Series[];
  /** What must not be exceeded. */
  readonly most?: number;
}

const WIDTH = 560;
const HEIGHT = 300;
/** Room for the names of the series. */
const LABELS_WIDTH = 190;
/** The least distance of two names, in parts of the height. */
const LABEL_PART = 0.055;
const COLORS = ['#d9480f', '#4c6ef5', '#2b8a3e', '#868e96'] as const;
const MOST_COLOR = '#c92a2a';

const { document } = parseHTML('<html><body></body></html>');

export function curve({ title, size, unit, series, most }: CurveOptions): string {
  const points = series.flatMap(({ points: all }, at) => all.map((point) => ({ ...point, color: colorOf(at) })));
  const greatest = 1.1 * Math.max(...points.map(({ value }) => value), most ?? 0);
  const drawn = plot({
    document,
    width: WIDTH,
    height: HEIGHT,
    marginRight: LABELS_WIDTH,
    marginLeft: 55,
    marginTop: 40,
    style: { background: 'white', color: '#1b1f24' },
    x: { type: 'log', label: size, grid: true, ticks: [...new Set(points.map(({ at }) => at))], tickFormat: number },
    y: { label: null, domain: [0, greatest > 0 ? greatest : 1], grid: true },
    marks: [
      text([`${title}, ${unit}`], { frameAnchor: 'top-left', dy: -36, fontWeight: 'bold', fontSize: 13 }),
      ...(most === undefined
        ? []
        : [
            ruleY([most], { stroke: MOST_COLOR, strokeWidth: 1.5 }),
            text([`at most ${number(most)}`], {
              y: most,
              frameAnchor: 'left',
              dx: 4,
              dy: -7,
              textAnchor: 'start',
              fill: MOST_COLOR,
            }),
          ]),
      ...series.map(({ points: all }, at) => lineY(all, { x: 'at', y: 'value', stroke: colorOf(at), strokeWidth: 2 })),
      dot(points, { x: 'at', y: 'value', fill: 'color', r: 3 }),
      ...labels(series, greatest).map(({ label, at, value, y, color }) =>
        text([label], { x: () => at, y: () => y, dx: 8, textAnchor: 'start', fill: color, title: () => number(value) }),
      ),
    ],
  });
  const [, attributes = '', content = ''] = /^<svg([^>]*)>(.*)$/s.exec(drawn.outerHTML) ?? [];
  return `<svg xmlns="http://www.w3.org/2000/svg"${attributes}>${content}\n`;
}

/** The names beside the last points, apart from each other. */
function labels(series: readonly Series[], greatest: number) {
  const last = series.flatMap(({ label, points }, at) => {
    const point = points.at(-1);
    return point ? [{ ...point, label: `${label}: ${number(point.value)}`, y: point.value, color: colorOf(at) }] : [];
  });
  const ascending = last.sort((a, b) => a.y - b.y);
  for (const [at, one] of ascending.entries()) {
    const below = ascending[at - 1];
    if (below) one.y = Math.max(one.y, below.y + LABEL_PART * greatest);
  }
  return ascending;
}

function colorOf(at: number): string {
  return COLORS[at % COLORS.length]!;
}
