/**
 * Charts as inline SVG: horizontal bars for medians, with whiskers from the minimum to the
 * maximum, and lines for bounds. Colours are CSS variables of the page, so they follow its
 * light and dark themes.
 */
import { barX, plot, ruleX, text, tickX, ruleY } from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { number } from './format.ts';
import type { Summary } from './statistics.ts';

export interface Bar extends Summary {
  readonly label: string;
  /** A CSS colour. */
  readonly color: string;
}

export interface Bound {
  readonly at: number;
  readonly kind: 'must' | 'aim' | 'equal';
}

export interface ChartOptions {
  /** The label of the axis. */
  readonly axis: string;
  readonly bars: readonly Bar[];
  readonly bounds: readonly Bound[];
}

const WIDTH = 560;
const BAR_HEIGHT = 26;
const LABELS_WIDTH = 175;
/** Room for the figure beyond the longest bar. */
const HEADROOM = 1.22;

/** Plot only needs a document in which to create elements. */
const { document } = parseHTML('<html><body></body></html>');

export function chart({ axis, bars, bounds }: ChartOptions): string {
  const greatest = Math.max(...bars.map(({ max }) => max), ...bounds.map(({ at }) => at));
  const drawn = plot({
    document,
    width: WIDTH,
    height: bars.length * BAR_HEIGHT + 60,
    marginLeft: LABELS_WIDTH,
    marginTop: 20,
    x: { label: axis, domain: [0, greatest > 0 ? greatest * HEADROOM : 1], grid: true },
    y: { label: null, domain: bars.map(({ label }) => label), tickSize: 0 },
    marks: [
      barX(bars, { x: 'median', y: 'label', fill: 'color', insetTop: 3, insetBottom: 3 }),
      ruleY(bars, { x1: 'min', x2: 'max', y: 'label', strokeWidth: 1.5 }),
      tickX(bars, { x: 'min', y: 'label', insetTop: 8, insetBottom: 8 }),
      tickX(bars, { x: 'max', y: 'label', insetTop: 8, insetBottom: 8 }),
      text(bars, { x: 'max', y: 'label', text: (bar: Bar) => number(bar.median), textAnchor: 'start', dx: 6 }),
      ...bounds.flatMap(({ at, kind }) => [
        ruleX([at], { stroke: `var(--${kind})`, strokeWidth: 1.5, strokeDasharray: kind === 'must' ? '' : '4 3' }),
        text([kind === 'equal' ? '' : kind], { x: at, frameAnchor: 'top', dy: -14, fill: `var(--${kind})` }),
      ]),
    ],
  });
  return drawn.outerHTML;
}
