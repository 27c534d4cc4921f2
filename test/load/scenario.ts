/**
 * The scenarios of the load test. Each one loads weft in one way and compares what it sees with
 * what weft promises.
 */

/** One scenario. Its name is a path from general to specific, such as `flood/tunnel/peer-macs/20000`. */
export interface Scenario {
  readonly name: string;
  /** @throws if it could not be run; broken promises go into the report */
  run(report: Report, options: LoadOptions): Promise<void>;
}

export interface LoadOptions {
  /** How long the load lasts. */
  readonly seconds: number;
}

/** Where a scenario reports what it saw. */
export interface Report {
  /** A line for readers: nothing depends on it. */
  figure(text: string): void;
  /** A promise of weft, with the figure that was seen; false if it is broken. */
  must(isKept: boolean, text: string): void;
}
