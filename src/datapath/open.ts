/** The two datapaths. A process loads only the one that it uses. */
import type { PortDescriptors } from '../flow/descriptors.ts';
import type { Datapath, DatapathOptions } from './datapath.ts';

export interface DatapathSettings {
  /** For the native datapath. */
  readonly threads: number;
  /** Encapsulated packets get the DSCP of the inner packet. */
  readonly copyDscp: boolean;
  /** When ports begin to receive. */
  readonly begun?: Promise<void>;
  /** Told of the descriptors of ports, and asked for spare ones. */
  readonly descriptors?: PortDescriptors | undefined;
}

/**
 * Loads a datapath.
 * @param setTimer for the reference datapath; the native one has its own timers
 * @returns a function that opens it, for frames from and to the kernel
 */
export async function datapathOpener(
  kind: 'native' | 'reference',
  { threads, copyDscp, begun, descriptors }: DatapathSettings,
  setTimer: typeof setTimeout,
): Promise<(options: DatapathOptions) => Datapath> {
  if (kind === 'reference') {
    const { openReferenceDatapath } = await import('./reference/reference.ts');
    const { FrameIo } = await import('./reference/frame-io.ts');
    const { populate } = await import('../addon/connection-memory.ts');
    return (options) =>
      openReferenceDatapath({
        ...options,
        ...(begun && { begun }),
        copyDscp,
        setTimer,
        io: (onWake, onLost) => new FrameIo(onWake, onLost, descriptors),
        populate: (from, bytes) => populate(options.connections!.memory, from, bytes),
      });
  }
  const { openNativeDatapath } = await import('./native/native.ts');
  return (options) => openNativeDatapath({ ...options, ...(begun && { begun }), threads, copyDscp, descriptors });
}
