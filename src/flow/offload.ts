/**
 * Work that a frame still needs, the fields of a virtio_net_hdr (virtio 1.2
 * §5.1.6): to finish a checksum that holds only the pseudo header's sum, and to
 * cut a superframe. Offsets and sizes in bytes.
 */
export interface Offload {
  readonly flags: number;
  readonly gsoType: number;
  /** Payload of each segment but the last. */
  readonly gsoSize: number;
  readonly csumStart: number;
  /** From `csumStart`. */
  readonly csumOffset: number;
}
