/** The library: a switch inside your own program, that of a running daemon, and the simulated network for tests. */
export {
  createSwitch,
  LocalSwitch as Switch,
  type LocalSwitchOptions as SwitchOptions,
} from './library/local-switch.ts';
export { DaemonClient as Client, type DaemonClientOptions as ClientOptions } from './library/daemon-client.ts';
export type { ApplyManifestsOptions, SwitchHandle } from './library/switch-handle.ts';
export type { AttachToNetwork, NetworkHandle } from './library/network-handle.ts';
export type { EndpointHandle } from './library/endpoint-handle.ts';
export type { DriverHandle } from './library/driver-handle.ts';
export type { ServicesHandle } from './library/services-handle.ts';
export type { PoliciesHandle } from './library/policies-handle.ts';
export type { HookOptions, HooksHandle } from './library/hooks-handle.ts';
export type { HealthHandle } from './library/health-handle.ts';
export type { Manifest, ManifestPlace } from './library/manifest.ts';
export type { CaptureEvent, Followed, InNamespace, Selection } from './api/client.ts';
export type { AttachRequest, CaptureOptions, ConnectionsOptions, NetworkOptions } from './switch.ts';
export { createSimulation, Simulation } from './simulation.ts';
export type {
  SimulatedAttach,
  SimulatedHost,
  SimulatedNetwork,
  SimulatedOutside,
  SimulatedPort,
  SimulationOptions,
} from './simulation.ts';
export * as frames from './frames.ts';
export { allow, balance, defineHook, deny, isIn, reject } from './hooks/api.ts';
export type {
  Hook,
  HookBackend,
  HookContext,
  HookEnd,
  HookFlow,
  HookRate,
  HookTreatment,
  HookVerdict,
} from './hooks/api.ts';
export { WeftError, type ErrorCode } from './error.ts';
export { reports } from './model/report.ts';
export { jsonSchemas } from './model/json-schema.ts';
export type * from './model/report.ts';
export type * from './model/policy-report.ts';
export type * from './model/service-report.ts';
export type * from './model/talk-report.ts';
export type { ServiceFields, ServiceResource } from './model/kinds/service.ts';
export type { NetworkPolicyFields, NetworkPolicyResource } from './model/kinds/network-policy.ts';
export type { EndpointResource } from './model/kinds/endpoint.ts';
export type { HostResource } from './model/kinds/host.ts';
export type { Resource, ResourceEvent, ResourceName } from './model/resource.ts';
export type { NamespaceResource } from './model/kinds/namespace.ts';
export type { NetworkResource } from './model/kinds/network.ts';
