/** What the HTTP API serves: the switch of one daemon, and the way to stop that daemon. */
import type { TakeoverAnswer, TakeoverRequest } from '../handover/request.ts';
import type { Switch } from '../switch.ts';

export type {
  AttachRequest,
  CaptureOptions,
  CaptureSink,
  ConnectionsOptions,
  Following,
  FollowOptions,
  NetworkOptions,
  RateLimitChange,
} from '../switch.ts';

/** The methods of the switch that have a route. */
export type SwitchMethods = {
  readonly whatIf: Pick<Switch['whatIf'], 'policyTests' | 'diff'>;
  readonly drivers: { readonly cni: Pick<Switch['drivers']['cni'], 'answer'> };
} & Pick<
  Switch,
  | 'status'
  | 'metrics'
  | 'doctor'
  | 'hosts'
  | 'acceptStore'
  | 'wait'
  | 'networks'
  | 'createNetwork'
  | 'removeNetwork'
  | 'attach'
  | 'detach'
  | 'endpoints'
  | 'apply'
  | 'confirmation'
  | 'delete'
  | 'get'
  | 'follow'
  | 'label'
  | 'trace'
  | 'flows'
  | 'why'
  | 'drops'
  | 'services'
  | 'followServices'
  | 'connections'
  | 'onFlow'
  | 'onDrop'
  | 'policies'
  | 'capture'
>;

export interface ApiTarget {
  readonly sw: SwitchMethods;
  /** True from the first request to stop; everything else is refused then. */
  readonly isStopping: () => boolean;
  /** Stops the switch; resolves when its ports are closed. The API itself still answers then. */
  readonly shutdown: (options: { readonly purge: boolean }) => Promise<void>;
  /** Another daemon asks to take over from this one. Undefined if that is not possible. */
  readonly takeover?: (request: TakeoverRequest) => TakeoverAnswer;
}

/** The header in which every answer says which version and build the daemon is (`build` of package.ts). */
export const BUILD_HEADER = 'weft-build';

/** The largest request body: several of the largest manifests, as JSON with all their defaults. */
export const BODY_LIMIT_BYTES = 16 << 20;

/** Bytes to keep of a captured frame unless the reader says otherwise: whole superframes. */
export const DEFAULT_SNAP_BYTES = 262_144;
