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
  readonly sizes: Sizes;
}

/** How large clusters are. */
export interface Sizes {
  /** Daemons and endpoints of `cluster/real`. */
  readonly realHosts: number;
  readonly realEndpoints: number;
  /** Those of `cluster/simulated`. */
  readonly simulatedHosts: number;
  readonly simulatedEndpoints: number;
  /** Endpoints of `cluster/watched`, one size after the other, ascending; and how many each of its hosts has. */
  readonly watched: readonly number[];
  readonly endpointsPerHost: number;
  /** How many endpoints come, and how many go, in a second. */
  readonly churn: number;
  /** For how many seconds a daemon is looked at while it rests, and while endpoints come and go. */
  readonly window: number;
  /** Endpoints of `relist`. */
  readonly relisted: number;
}

/** Where a scenario reports what it saw. */
export interface Report {
  /** A line for readers: nothing depends on it. */
  figure(text: string): void;
  /** A figure that goes into the results. @param at the size at which it was seen, for curves */
  value(name: string, figure: number, unit: string, at?: number): void;
  /** A promise of weft, with the figure that was seen; false if it is broken. */
  must(isKept: boolean, text: string): void;
}
