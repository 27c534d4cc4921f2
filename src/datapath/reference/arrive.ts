/**
 * A frame arrives: it is decapsulated if it came by the tunnel, and its key is extracted. Probes of other VTEPs go no
 * further.
 */
import { extract } from '../../flow/extract.ts';
import { fields } from '../../flow/fields.ts';
import { emptyKey, writeNumber, type FlowKey } from '../../flow/key.ts';
import type { DropReason } from '../../flow/reason.ts';
import { sameBytes, type PortNo } from '../../flow/types.ts';
import { ETH_HEADER_BYTES } from '../../wire/ethernet.ts';
import { PROBE_VNI } from '../../wire/probe.ts';
import { parseVxlan } from '../../wire/vxlan.ts';
import type { Arrived } from './coalesce.ts';
import { decapsulateEcn } from './ecn.ts';
import type { ReceivedFrame } from './kernel-io.ts';
import type { Mirror } from './mirror.ts';
import { checkOffload, GSO_NONE, hasRightIpv4Header, NO_OFFLOAD, unfinishedChecksum, type Frame } from './offload.ts';
import type { Ports } from './ports.ts';
import { untagPriority } from './priority-tag.ts';
import type { Tally } from './tally.ts';

export class Entrance {
  readonly #ports: Ports;
  readonly #tally: Tally;
  readonly #mirror: Mirror;
  readonly #onProbe: (source: Uint8Array, frame: Uint8Array) => DropReason | undefined;

  /** @param onProbe takes the probe of another VTEP, or says why it is refused */
  constructor(
    ports: Ports,
    tally: Tally,
    mirror: Mirror,
    onProbe: (source: Uint8Array, frame: Uint8Array) => DropReason | undefined,
  ) {
    this.#ports = ports;
    this.#tally = tally;
    this.#mirror = mirror;
    this.#onProbe = onProbe;
  }

  /** Undefined if it was counted and dropped. A frame that is returned is not counted yet. */
  arrive(port: PortNo, { bytes, source, tos, offload }: ReceivedFrame): Arrived | undefined {
    const key = emptyKey();
    writeNumber(key, fields.in_port, port);
    if (!source) return this.#extract(port, { bytes, offload }, key);
    const vxlan = parseVxlan(bytes);
    if (!vxlan || vxlan.frame.length < ETH_HEADER_BYTES) return this.#refuse(port, bytes.length, 'vxlan_malformed');
    if (sameBytes(source, this.#ports.tunnel!.spec.local)) {
      return this.#refuse(port, vxlan.frame.length, 'vxlan_own_address');
    }
    if (vxlan.vni === PROBE_VNI) {
      this.#tally.received(port, vxlan.frame.length);
      const refused = this.#onProbe(source, vxlan.frame);
      if (refused) this.#tally.dropped(port, refused);
      else this.#tally.consumed++;
      return undefined;
    }
    writeNumber(key, fields.tun_vni, vxlan.vni);
    key.set(source, fields.tun_src.offset);
    return this.#extract(port, { bytes: vxlan.frame, offload: NO_OFFLOAD }, key, tos);
  }

  #extract(port: PortNo, received: Frame, key: FlowKey, outerTos = 0): Arrived | undefined {
    this.#mirror.frame(port, 'rx', received.bytes);
    const { bytes: frame, offload: asked } = untagPriority(received);
    const extracted = extract(frame, key);
    if (!extracted.ok) return this.#refuse(port, frame.length, extracted.reason);
    const packet = frame.subarray(0, extracted.lengthBytes);
    const bytes = decapsulateEcn(packet, key, outerTos);
    if (!bytes) return this.#refuse(port, packet.length, 'ecn_ce_not_ect');
    const l4 = extracted.l4Offset;
    const offload =
      port === this.#ports.tunnel?.port ? unfinishedChecksum(bytes, key, l4) : checkOffload(bytes, asked, key, l4);
    if (!offload) return this.#refuse(port, bytes.length, 'bad_vnet_hdr');
    // Sooner or later a superframe is segmented, and each segment gets a correct header checksum.
    if (offload.gsoType !== GSO_NONE && !hasRightIpv4Header(bytes, key)) {
      return this.#refuse(port, bytes.length, 'ipv4_checksum');
    }
    return { bytes, offload, key, l4 };
  }

  #refuse(port: PortNo, lengthBytes: number, reason: DropReason): undefined {
    this.#tally.received(port, lengthBytes);
    this.#tally.dropped(port, reason);
  }
}
