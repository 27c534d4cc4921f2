/**
 * Work that a frame still needs, in the fields of a virtio_net_hdr (virtio 1.2 §5.1.6): to
 * complete a checksum that holds only the sum of the pseudo header, and to segment a
 * superframe. Offsets and sizes are in bytes.
 */
export interface Offload {
  readonly flags: number;
  readonly gsoType: number;
  /** Payload of each segment except the last. */
  readonly gsoSize: number;
  readonly csumStart: number;
  /** Relative to `csumStart`. */
  readonly csumOffset: number;
}
