/** What the HTTP API stands for: the switch of one daemon, and the way to stop that daemon. */
import type { Switch } from '../switch.ts';

export type { AttachOptions, CaptureOptions, CaptureSink, NetworkOptions, RateLimitChange } from '../switch.ts';

/** The methods of the switch that have a route. */
export type SwitchMethods = Pick<
  Switch,
  | 'status'
  | 'doctor'
  | 'networks'
  | 'createNetwork'
  | 'removeNetwork'
  | 'attach'
  | 'detach'
  | 'endpoints'
  | 'apply'
  | 'delete'
  | 'get'
  | 'trace'
  | 'flows'
  | 'why'
  | 'drops'
  | 'connections'
  | 'onFlow'
  | 'onDrop'
  | 'capture'
>;

export interface ApiTarget {
  readonly sw: SwitchMethods;
  /** True from the first request to stop on: everything else is refused then. */
  readonly isStopping: () => boolean;
  /** Stops the switch; resolves when its ports are closed. The API itself still answers then. */
  readonly shutdown: (options: { readonly purge: boolean }) => Promise<void>;
}

/** The largest request body; a manifest is far below it. */
export const BODY_LIMIT_BYTES = 1 << 20;

/** Bytes of a captured frame if the reader does not say: whole superframes. */
export const DEFAULT_SNAP_BYTES = 262_144;
