/** The library: a switch inside your own program, and the simulated network for tests. */
export { createSwitch, Switch } from './switch.ts';
export type { AttachRequest, CaptureOptions, CaptureSink, NetworkOptions, SwitchOptions } from './switch.ts';
export { createSimulation, Simulation } from './simulation.ts';
export type {
  SimulatedAttach,
  SimulatedHost,
  SimulatedNetwork,
  SimulatedOutside,
  SimulatedPort,
  SimulationOptions,
} from './simulation.ts';
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
export type { EndpointResource } from './model/kinds/endpoint.ts';
export type { HostResource } from './model/kinds/host.ts';
export type { Resource, ResourceName } from './model/resource.ts';
export type { NamespaceResource } from './model/kinds/namespace.ts';
export type { NetworkResource } from './model/kinds/network.ts';
