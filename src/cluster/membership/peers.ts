/**
 * The other hosts as peers of the tunnel: whom this host probes, with which key, and what it knows of each
 * (`datapath/liveness.ts`).
 *
 * A peer is said to be down when no service leads new connections there any more: services leave it first, then frames to it are
 * refused, then it is told. Until then it is said to be what it was.
 *
 * Whatever changes the list of VTEPs, the networks or the keys calls `follow`, which tells the datapath what is new.
 */
import type { LivenessSettings, PeerLiveness, ProbedPeer, ProbeStranger } from '../../datapath/liveness.ts';
import { bytesId } from '../../flow/key.ts';
import { formatIp, parseIp } from '../../flow/types.ts';
import type { Remote } from '../../forwarding/remote.ts';
import { goesOn, lastSeenText } from '../../model/last-seen.ts';
import type { ClashReport, HostReport } from '../../model/report.ts';

export interface PeersEnvironment {
  readonly forwarding: { readonly remote: Pick<Remote, 'setLiveness' | 'setVtepsDown' | 'peers' | 'strangers'> };
  readonly liveness: Pick<LivenessSettings, 'session' | 'intervalMs' | 'multiplier'>;
  /** The underlay addresses of all VTEPs. */
  readonly vteps: () => readonly string[];
  /** What peers, keys and networks depend on: none of these has changed as long as each of them is the same object. */
  readonly sources: () => readonly unknown[];
  /** The name of the host with that underlay address. */
  readonly nameOf: (underlay: string) => string | undefined;
  readonly keyOf: (underlay: string) => Uint8Array | undefined;
  readonly networks: () => readonly { readonly name: string; readonly vni: number }[];
  readonly pathMtu: (underlay: string) => number | undefined;
  /** True if all hosts have their networks from one store. */
  readonly isShared: boolean;
  readonly vxlanPort: number;
  /** Milliseconds: the clock of the datapath, and since the epoch. */
  readonly clock: () => number;
  readonly wallClock: () => number;
  /** Called for each peer that has another state. */
  readonly onChange: (peer: HostReport) => void;
  /** Called for each host that services have to leave (`isAvoided`) or may come back to, and that is known to run or not. */
  readonly onHostChanged: (host: string) => void;
  /** Resolves when services have followed. */
  readonly followed: () => Promise<void>;
  /** A defect: that hosts are down could not be put into force, or not told. */
  readonly onError: (error: unknown) => void;
}

/** How long a stranger is told of after its last probe: three times the longest interval that there is. */
const STRANGER_MS = 30_000;
/** How long a peer may take to answer before it is told that it does not. */
const PATIENCE_WINDOWS = 3;
/**
 * How long peers wait for a host where another daemon takes over, at least: until that one has failed and has ended
 * (`FORWARD_MS`, handover/request.ts), so that the daemon that ran before goes on unnoticed.
 */
const TAKEOVER_MS = 9000;
/** Hosts of one store are peers by themselves, and have its key. */
const OTHER_STORE =
  'see with `weft status` there which store it uses: hosts that share one, with one prefix, know each other and its key by themselves';
/** How many networks a sentence names. */
const MOST_NAMED = 4;

export class Peers {
  readonly #environment: PeersEnvironment;
  #inForce = '';
  #settings: LivenessSettings | undefined;
  /** What this host promises is the interval of its probes. */
  #intervalMs: number;
  #sources: readonly unknown[] = [];
  /** What is said of each, by its address: its state, and since when. */
  readonly #states = new Map<string, Pick<PeerLiveness, 'state' | 'sinceMs'>>();
  /** Those that are down, which services are leaving, with all that they leave together. */
  readonly #leaving = new Map<string, readonly string[]>();

  constructor(environment: PeersEnvironment) {
    this.#environment = environment;
    this.#intervalMs = environment.liveness.intervalMs;
  }

  /** Probes whoever is a peer now. Called with each change of anything. */
  follow(): void {
    const { liveness, vteps, keyOf, networks } = this.#environment;
    const sources = this.#environment.sources();
    if (sources.length === this.#sources.length && sources.every((one, at) => one === this.#sources[at])) return;
    this.#sources = sources;
    const peers = vteps().map((vtep): ProbedPeer => ({ address: parseIp(vtep), key: keyOf(vtep) }));
    const vnis = networks()
      .map(({ vni }) => vni)
      .sort((a, b) => a - b);
    const wanted = JSON.stringify([peers.map(({ address, key }) => [bytesId(address), key && bytesId(key)]), vnis]);
    if (wanted === this.#inForce) return;
    this.#inForce = wanted;
    this.#settings = { ...liveness, peers, vnis };
    this.#tell();
    this.noteChanges();
  }

  /** Tells all peers that nothing may be heard of this host for a while, since another daemon takes over. */
  askForPatience(): void {
    // They wait for so many of the intervals that this host promises.
    const { multiplier } = this.#environment.liveness;
    this.#intervalMs = Math.max(this.#intervalMs, Math.ceil(TAKEOVER_MS / multiplier));
    this.#tell();
  }

  #tell(): void {
    if (this.#settings)
      this.#environment.forwarding.remote.setLiveness({ ...this.#settings, intervalMs: this.#intervalMs });
  }

  /** Follows the peers whose state has changed, and tells of them. */
  noteChanges(): void {
    const { forwarding, nameOf, onHostChanged, followed, onError } = this.#environment;
    const peers = new Map(forwarding.remote.peers().map((peer) => [formatIp(peer.address), peer]));
    for (const underlay of [...this.#states.keys(), ...this.#leaving.keys()]) {
      if (peers.has(underlay)) continue;
      this.#states.delete(underlay);
      this.#leaving.delete(underlay);
    }
    const left: string[] = [];
    const said: PeerLiveness[] = [];
    for (const [underlay, peer] of peers) {
      if (peer.state !== 'down' || this.#states.get(underlay)?.state === 'down') said.push(peer);
      else if (!this.#leaving.has(underlay)) left.push(underlay);
    }
    this.#say(said);
    if (left.length === 0) return;
    for (const underlay of left) {
      this.#leaving.set(underlay, left);
      const name = nameOf(underlay);
      if (name !== undefined) onHostChanged(name);
    }
    followed()
      .then(() => this.#sayLeft(left))
      .catch(onError);
  }

  /** Says of those that they are down, unless something else is known of them by now. */
  #sayLeft(left: readonly string[]): void {
    const isStillLeft = (underlay: string): boolean => this.#leaving.get(underlay) === left;
    try {
      this.#say(this.#environment.forwarding.remote.peers().filter(({ address }) => isStillLeft(formatIp(address))));
    } finally {
      for (const underlay of left) if (isStillLeft(underlay)) this.#leaving.delete(underlay);
    }
  }

  /** Puts the states of peers into force, and tells of those that are other ones. */
  #say(peers: readonly PeerLiveness[]): void {
    const { remote } = this.#environment.forwarding;
    remote.setVtepsDown(peers.map(({ address, state }) => ({ vtep: address, isDown: state === 'down' })));
    for (const peer of peers) this.#tellOf(formatIp(peer.address), peer);
  }

  #tellOf(underlay: string, peer: PeerLiveness): void {
    const { nameOf, onHostChanged, onChange } = this.#environment;
    const before = this.#states.get(underlay);
    const [wasAvoided, wasUp] = [this.isAvoided(underlay), before?.state === 'up'];
    this.#leaving.delete(underlay);
    this.#states.set(underlay, { state: peer.state, sinceMs: peer.sinceMs });
    const name = nameOf(underlay);
    // A host that the store does not have runs if the tunnel to it does.
    const isAnother = peer.state !== 'down' && (wasAvoided || wasUp !== (peer.state === 'up'));
    if (name !== undefined && isAnother) onHostChanged(name);
    if (before !== undefined && before.state !== peer.state) onChange(this.#reportOf(peer));
  }

  /** What is said of each. */
  #peers(): PeerLiveness[] {
    return this.#environment.forwarding.remote.peers().map((peer) => {
      const said = this.#states.get(formatIp(peer.address)) ?? { state: 'unprobed', sinceMs: peer.sinceMs };
      if (peer.state !== 'down' || said.state === 'down') return peer;
      return { ...peer, ...said, fault: said.state === 'up' ? 'none' : peer.fault };
    });
  }

  /** The state of each, by its address. */
  states(): Record<string, PeerLiveness['state']> {
    return Object.fromEntries(this.#peers().map(({ address, state }) => [formatIp(address), state]));
  }

  /** Whether the tunnel to a host works; undefined if that is not known. @param underlay undefined for a host that is not known */
  isReachable(underlay: string | undefined): boolean | undefined {
    const state = this.#stateOf(underlay)?.state;
    return state === 'up' ? true : state === 'down' ? false : undefined;
  }

  /** True if the tunnel to a host is down, or will be said to be: nothing new is led there. */
  isAvoided(underlay: string | undefined): boolean {
    return (underlay !== undefined && this.#leaving.has(underlay)) || this.isReachable(underlay) === false;
  }

  /** For how long the tunnel to a host has been down, in milliseconds; undefined if it is not, or if that is not known. */
  downMs(underlay: string | undefined): number | undefined {
    const known = this.#stateOf(underlay);
    return known?.state === 'down' ? this.#environment.clock() - known.sinceMs : undefined;
  }

  #stateOf(underlay: string | undefined): Pick<PeerLiveness, 'state' | 'sinceMs'> | undefined {
    return underlay === undefined ? undefined : this.#states.get(underlay);
  }

  /** What is said of each, once services have followed what was known of hosts when this was called. */
  async inForce(): Promise<HostReport[]> {
    const report = this.report();
    await this.#environment.followed();
    return report;
  }

  report(): HostReport[] {
    return this.#peers().map((peer) => this.#reportOf(peer));
  }

  #reportOf(peer: PeerLiveness): HostReport {
    const { clock, wallClock, nameOf, pathMtu } = this.#environment;
    const underlay = formatIp(peer.address);
    const why = this.#whyNot(peer);
    return {
      name: nameOf(underlay) ?? null,
      underlay,
      state: peer.state,
      ...(why !== undefined && { why }),
      since: new Date(wallClock() - clock() + peer.sinceMs).toISOString(),
      roundTripMs: peer.roundTripMs ?? null,
      lossIn: peer.lossIn,
      lossOut: peer.lossOut,
      pathMtu: pathMtu(underlay) ?? null,
      vnis: peer.vnis ? [...peer.vnis] : null,
    };
  }

  #whyNot({ state, fault }: PeerLiveness): string | undefined {
    switch (fault) {
      case 'none':
        return undefined;
      case 'no_key':
        return 'there is no key for it';
      case 'silent':
        return state === 'unprobed' ? 'it has not answered a probe yet' : 'nothing is heard from it';
      case 'unheard':
        return 'it does not hear this host';
      default:
        return fault satisfies never;
    }
  }

  /** What does not fit together between this host and its peers, and how to mend it. */
  clashes(): ClashReport[] {
    const peers = this.#peers();
    return [
      ...suspicion(peers),
      ...peers.flatMap((peer) => this.#clashesOf(peer)),
      ...this.#environment.forwarding.remote.strangers().flatMap((one) => this.#clashOf(one, peers)),
    ];
  }

  #clashesOf(peer: PeerLiveness): ClashReport[] {
    const { vxlanPort, isShared, liveness, clock } = this.#environment;
    const underlay = formatIp(peer.address);
    const clashes: ClashReport[] = [];
    if (peer.hasTwin) {
      clashes.push({
        detail: `two hosts send probes from ${underlay}, or peer ${underlay} hears two from this host’s address`,
        hint: 'give each host an underlay address of its own',
      });
    }
    const patienceMs = PATIENCE_WINDOWS * liveness.intervalMs * liveness.multiplier;
    const isOverdue = clock() - peer.sinceMs > patienceMs;
    if (peer.fault === 'unheard' && (peer.state !== 'unprobed' || isOverdue)) {
      clashes.push({
        detail: `peer ${underlay} does not hear this host, but its probes arrive here`,
        hint: `let UDP ${vxlanPort} from this host through to it${isShared ? '' : ', and check that its --peer for this host has the same key'}`,
      });
    } else if (peer.state === 'unprobed' && peer.fault === 'silent' && isOverdue) {
      clashes.push({
        detail: `peer ${underlay} has not answered any probe on UDP ${vxlanPort}`,
        hint: `let UDP ${vxlanPort} through between the hosts${isShared ? '' : ', and give weft up --peer ADDRESS,KEY of this host there'}; if it is not weft, give no key for it here`,
      });
    }
    return isShared ? clashes : [...clashes, ...this.#vniClash(peer, underlay)];
  }

  #vniClash({ vnis, state }: PeerLiveness, underlay: string): ClashReport[] {
    if (!vnis || state !== 'up') return [];
    const missing = this.#environment.networks().filter(({ vni }) => !vnis.includes(vni));
    if (missing.length === 0) return [];
    const named = missing.slice(0, MOST_NAMED).map(({ name, vni }) => `VNI ${vni} ("${name}" here)`);
    const more = missing.length > MOST_NAMED ? ` and ${missing.length - MOST_NAMED} more` : '';
    return [
      {
        detail: `peer ${underlay} has no network with ${named.join(', ')}${more}`,
        hint: 'give a network the same VNI on all hosts; where only this host has this network, nothing is wrong',
      },
    ];
  }

  #clashOf({ address, reason, lastMs }: ProbeStranger, peers: readonly PeerLiveness[]): ClashReport[] {
    const { clock, isShared, keyOf } = this.#environment;
    const agoMs = clock() - lastMs;
    if (agoMs > STRANGER_MS) return [];
    const sender = formatIp(address);
    const peer = peers.find((one) => formatIp(one.address) === sender);
    const isHeardSince = (peer?.heardMs ?? 0) > lastMs;
    const last = lastSeenText(agoMs);
    if (reason === 'probe_unknown_peer') {
      // Its probes came before this host knew of it, or had a key for it, as when hosts start together.
      if (isHeardSince || (peer && keyOf(sender))) return [];
      return [
        {
          detail: peer
            ? `peer ${sender} probes this host, which has no key for it${last}`
            : `${sender} probes this host, and is no peer of it${last}`,
          hint: isShared ? OTHER_STORE : `give weft up --peer ${sender},KEY here, with the key of that host`,
        },
      ];
    }
    // It has the right key by now. If both go on, somebody else sends from its address.
    if (isHeardSince && !goesOn(agoMs)) return [];
    return [
      {
        detail: `probes from ${sender} have a wrong key, or are for another host${last}`,
        hint: isShared ? OTHER_STORE : 'give both hosts the same key for each other',
      },
    ];
  }
}

function suspicion(peers: readonly PeerLiveness[]): ClashReport[] {
  const suspects = peers.filter(({ state }) => state === 'suspect').map(({ address }) => formatIp(address));
  if (suspects.length === 0) return [];
  return [
    {
      detail: `most peers stopped answering at about the same time (${suspects.slice(0, MOST_NAMED).join(', ')}): this host may be cut off, so frames still go to them`,
      hint: 'check the underlay of this host',
    },
  ];
}
