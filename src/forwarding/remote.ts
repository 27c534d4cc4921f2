/**
 * What a host knows of the others: their VTEPs, whether they can be reached and how large a packet may be on the way, and
 * the endpoints that are there.
 *
 * Whatever is removed or replaced here, all decisions that depend on it have been made again when the method returns.
 */
import type { Controller } from '../control/controller.ts';
import type { Datapath } from '../datapath/datapath.ts';
import type { LivenessSettings, PeerLiveness, ProbeStranger } from '../datapath/liveness.ts';
import { LEAST_MTU } from '../flow/action.ts';
import { bytesOf } from '../flow/key.ts';
import { linkLocalOf } from '../flow/types.ts';
import { announcement } from '../pipeline/reply.ts';
import type { Tables } from '../pipeline/stage.ts';
import { vtepLocation } from '../table/fdb.ts';
import { Workload, type RemoteEndpoint } from '../table/workload.ts';

export class Remote {
  readonly #datapath: Datapath;
  readonly #tables: Tables;
  readonly #controller: Controller;

  constructor(datapath: Datapath, tables: Tables, controller: Controller) {
    this.#datapath = datapath;
    this.#tables = tables;
    this.#controller = controller;
  }

  /**
   * Adds a VTEP, or changes whether it is of a host that shares the store, all of whose workloads are known.
   * @param hostMac the MAC with which such a host asks for neighbors
   */
  addVtep(vtep: Uint8Array, hostMac?: Uint8Array): void {
    this.#tables.topology.vteps.add(vtep, hostMac);
    this.#controller.enforce();
  }

  /** Connections from outside that came in by its host end. */
  removeVtep(vtep: Uint8Array): void {
    this.#tables.topology.vteps.remove(vtep);
    this.#tables.fdb.forget({ kind: 'vtep', vtep });
    this.#controller.endings.endEntered(vtep);
    this.#controller.enforce();
  }

  /** Says which peers are probed, and how. Whoever follows what is known of them has to look at them then. */
  setLiveness(settings: LivenessSettings): void {
    this.#datapath.liveness.set(settings);
  }

  /** What is known of the peers that are probed, or would be if they had a key. */
  peers(): PeerLiveness[] {
    return this.#datapath.liveness.peers();
  }

  /** Whose probes are refused. */
  strangers(): ProbeStranger[] {
    return this.#datapath.liveness.strangers();
  }

  /** Makes what the datapath knows of the peers be in force at once. */
  followPeers(): void {
    const { vteps } = this.#tables.topology;
    for (const { address, state } of this.peers()) vteps.setDown(address, state === 'down');
    this.#controller.enforce();
  }

  /** Nothing is sent to a VTEP that is down until it is back. What is new is in force for all of them at once. */
  setVtepsDown(all: readonly { readonly vtep: Uint8Array; readonly isDown: boolean }[]): void {
    const { vteps } = this.#tables.topology;
    const news = all.filter(({ vtep, isDown }) => vteps.isDown(vtep) !== isDown);
    for (const { vtep, isDown } of news) vteps.setDown(vtep, isDown);
    if (news.length > 0) this.#controller.enforce();
  }

  /** Sets the largest inner packet that the path to a VTEP carries. Returns true if that is new. */
  setPathMtu(vtep: Uint8Array, bytes: number): boolean {
    this.#tables.topology.vteps.setPathMtu(vtep, Math.max(bytes, LEAST_MTU));
    return this.#controller.enforce();
  }

  /**
   * Adds an endpoint of another host. One that is known by its network and MAC may change in everything else.
   * @returns what names it for `removeEndpoint`, in little memory
   */
  addEndpoint(remote: RemoteEndpoint): Pick<RemoteEndpoint, 'vni' | 'mac'> {
    const { fdb, neighbors, topology } = this.#tables;
    const { vni, mac, vtep } = remote;
    const workload = new Workload(remote);
    const before = fdb.workload(vni, mac);
    if (before?.isSame(workload)) return before;
    // Both at once: who follows an endpoint that moves finds it at one of the two places.
    const gone = before ? this.#forget(before, workload) : [];
    fdb.setStatic(vni, mac, vtepLocation(vtep), workload);
    topology.workloads.add(workload);
    for (const id of workload.addressIds) neighbors.set(vni, bytesOf(id), mac);
    neighbors.set(vni, linkLocalOf(mac), mac);
    for (const id of workload.allowedIds) neighbors.retry(vni, bytesOf(id));
    this.#controller.enforce();
    this.#controller.endings.endTracked(vni, gone);
    return workload;
  }

  /**
   * Tells the local ports of the network where an endpoint of another host is, as it would do itself: they may remember
   * another holder of its addresses, and announcements do not pass between hosts of the store.
   */
  announceEndpoint({ vni, mac, addresses }: RemoteEndpoint): void {
    const ports = [...(this.#tables.topology.network(vni)?.ports ?? [])];
    if (ports.length === 0) return;
    const actions = ports.map((port) => ({ op: 'output', port }) as const);
    for (const ip of addresses) this.#datapath.execute({ frame: announcement(mac, ip) }, actions);
  }

  /** Does nothing if there is none. */
  removeEndpoint({ vni, mac }: Pick<RemoteEndpoint, 'vni' | 'mac'>): void {
    const { fdb, neighbors } = this.#tables;
    const workload = fdb.workload(vni, mac);
    if (!workload) return;
    const gone = this.#forget(workload);
    fdb.removeStatic(vni, mac);
    neighbors.remove(vni, linkLocalOf(mac), mac);
    this.#controller.enforce();
    this.#controller.endings.endTracked(vni, [...gone, linkLocalOf(mac)]);
  }

  /** Returns the addresses that are gone. @param heir what takes its place with the same MAC */
  #forget(workload: Workload, heir?: Workload): readonly Uint8Array[] {
    const { neighbors, topology } = this.#tables;
    const kept = new Set(heir?.addressIds);
    topology.workloads.remove(workload);
    const gone = workload.addressIds.filter((id) => !kept.has(id)).map(bytesOf);
    for (const ip of gone) neighbors.remove(workload.vni, ip, workload.mac);
    const allowed = new Set(heir?.allowedIds);
    const { vni } = workload;
    const isCarried = (ip: Uint8Array): boolean => topology.isCarried(vni, ip) || topology.workloads.isAllowed(vni, ip);
    const others = workload.allowedIds.filter((id) => !allowed.has(id)).map(bytesOf);
    return [...gone, ...others.filter((ip) => !isCarried(ip))];
  }
}
