/**
 * Sends frames: by a local port within its rate, or encapsulated through the tunnel; segmented where
 * superframes are not supported. What memory ports transmit waits in an outbox until the current frame
 * has run to its end.
 */
import type { Action } from '../../flow/action.ts';
import { INTERNAL } from '../../flow/connection.ts';
import { fields } from '../../flow/fields.ts';
import { ENTROPY_FIRST_PORT, ENTROPY_PORTS, entropyPort, flowHash } from '../../flow/hash.ts';
import { readBytes, readNumber, type FlowKey } from '../../flow/key.ts';
import type { PortNo, Vni } from '../../flow/types.ts';
import { buildVxlan } from '../../wire/vxlan.ts';
import { outerTos } from './ecn.ts';
import type { Mirror } from './mirror.ts';
import { NO_OFFLOAD, type Frame } from './offload.ts';
import type { LocalSpec, Ports } from './ports.ts';
import type { Rates } from './rates.ts';
import { segments, takes, TAKES_ALL } from './segment.ts';
import type { Tally } from './tally.ts';

/** `from` is where a frame came in; undefined if weft made it. */
export class Sender {
  readonly #ports: Ports;
  readonly #rates: Rates;
  readonly #tally: Tally;
  readonly #mirror: Mirror;
  readonly #copyDscp: boolean;
  /** Pending calls of memory ports' `transmit`. */
  readonly #outbox: (() => void)[] = [];
  #transmitting = false;

  /** @param copyDscp copy the inner DSCP to the outer header */
  constructor(ports: Ports, rates: Rates, tally: Tally, mirror: Mirror, copyDscp: boolean) {
    this.#ports = ports;
    this.#rates = rates;
    this.#tally = tally;
    this.#mirror = mirror;
    this.#copyDscp = copyDscp;
  }

  /** The action that sends something back to where a frame with this key came from: its port, or its VTEP. */
  wayBack(port: PortNo, key: FlowKey): Action {
    if (port !== this.#ports.tunnel?.port) return { op: 'output', port };
    return { op: 'encap', vni: readNumber(key, fields.tun_vni) as Vni, vtep: readBytes(key, fields.tun_src).slice() };
  }

  output(to: PortNo, frame: Frame, key: FlowKey, from: PortNo | undefined): void {
    const spec = this.#ports.get(to);
    if (spec?.kind !== 'memory' && spec?.kind !== 'tap') return this.#tally.dropped(from, 'port_gone');
    if (spec.place === INTERNAL) {
      if (from !== undefined && !this.#rates.admitsToSockets(from, frame, key))
        return this.#tally.dropped(from, 'rate_limit_sockets');
    } else if (from !== undefined && this.#isSockets(from)) this.#rates.answeredBySockets(to, frame, key);
    if (this.#rates.admitsOut(to, frame, from)) this.#pass(to, spec, frame, from);
  }

  #isSockets(port: PortNo): boolean {
    const spec = this.#ports.get(port);
    return (spec?.kind === 'memory' || spec?.kind === 'tap') && spec.place === INTERNAL;
  }

  /** A frame that waited for the rate of `to`, which must exist. */
  passOut(to: PortNo, frame: Frame, from: PortNo | undefined): void {
    this.#pass(to, this.#ports.get(to) as LocalSpec, frame, from);
  }

  #pass(to: PortNo, spec: LocalSpec, frame: Frame, from: PortNo | undefined): void {
    const offloads = spec.kind === 'tap' ? this.#ports.io.offloads(to) : spec.offloads ? TAKES_ALL : 0;
    if (takes(offloads, frame.offload)) return this.#send(to, spec, frame, from);
    const cut = segments(frame);
    this.#tally.segments += cut.length - 1;
    for (const bytes of cut) this.#send(to, spec, { bytes, offload: NO_OFFLOAD }, from);
  }

  #send(to: PortNo, spec: LocalSpec, frame: Frame, from: PortNo | undefined): void {
    if (spec.kind === 'memory') {
      const copy = frame.bytes.slice();
      const offload = frame.offload.flags === 0 ? undefined : frame.offload;
      this.#outbox.push(() => spec.transmit(copy, offload));
    } else {
      const refused = this.#ports.io.send(to, frame);
      if (refused) return this.#tally.dropped(from, refused);
    }
    this.#sent(to, frame.bytes);
  }

  encap(vni: number, vtep: Uint8Array, frame: Frame, key: FlowKey, from: PortNo | undefined): void {
    if (!this.#ports.tunnel) return this.#tally.dropped(from, 'underlay_missing');
    const { port, spec } = this.#ports.tunnel;
    const cut = segments(frame);
    this.#tally.segments += cut.length - 1;
    const tos = outerTos(key, this.#copyDscp);
    const payloads = cut.map((bytes) => buildVxlan({ vni, frame: bytes }));
    let sent = cut;
    if (spec.kind === 'memory-vxlan') {
      for (const payload of payloads) {
        const datagram = { source: spec.local, destination: vtep, sourcePort: entropyPort(key), tos, payload };
        this.#outbox.push(() => spec.transmit(datagram));
      }
    } else {
      const refused = this.#ports.io.sendUnderlay(vtep, flowHash(key), tos, payloads);
      if (refused) {
        this.#tally.dropped(from, refused.reason, refused.datagrams);
        sent = cut.slice(refused.datagrams);
      }
    }
    for (const bytes of sent) this.#sent(port, bytes);
  }

  /** Sends what VTEPs tell each other; no mirror sees it. @param lengthBytes of the frame in it */
  sendProbe(vtep: Uint8Array, entropy: number, payload: Uint8Array, lengthBytes: number): void {
    if (!this.#ports.tunnel) return;
    const { port, spec } = this.#ports.tunnel;
    this.#tally.originated++;
    if (spec.kind === 'memory-vxlan') {
      const sourcePort = ENTROPY_FIRST_PORT + (entropy % ENTROPY_PORTS);
      this.#outbox.push(() => spec.transmit({ source: spec.local, destination: vtep, sourcePort, tos: 0, payload }));
    } else {
      const refused = this.#ports.io.sendUnderlay(vtep, entropy, 0, [payload]);
      if (refused) return this.#tally.dropped(undefined, refused.reason);
    }
    this.#tally.sent(port, lengthBytes);
  }

  #sent(port: PortNo, frame: Uint8Array): void {
    this.#tally.sent(port, frame.length);
    this.#mirror.frame(port, 'tx', frame);
  }

  /** Empties the outbox; frames that `transmit` brings back in go to its end. */
  transmit(): void {
    if (this.#transmitting) return;
    this.#transmitting = true;
    try {
      for (let next = this.#outbox.shift(); next; next = this.#outbox.shift()) next();
    } finally {
      this.#transmitting = false;
    }
  }
}
