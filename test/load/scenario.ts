/**
 * What the load test runs: scenarios, each of which loads weft in one way and
 * judges what it sees by what weft promises.
 */

/** One scenario. Its name is a path from the general to the particular, `flood/tunnel/peer-macs/20000`. */
export interface Scenario {
  readonly name: string;
  /** @throws when it could not be run; what weft fails to keep goes into the report */
  run(report: Report, options: LoadOptions): Promise<void>;
}

export interface LoadOptions {
  /** How long the load goes on. */
  readonly seconds: number;
}

/** Where a scenario says what it saw. */
export interface Report {
  /** A line for whoever reads it: nothing depends on it. */
  figure(text: string): void;
  /** What weft promises, with the figure that was seen; false: it is broken. */
  must(isKept: boolean, text: string): void;
}
