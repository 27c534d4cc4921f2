/** The two datapaths, of which a process loads the one that it uses. */
import type { Datapath, DatapathOptions } from './datapath.ts';

export interface DatapathSettings {
  /** Of the native one. */
  readonly threads: number;
  /** Encapsulated packets have the DSCP of the packet inside. */
  readonly copyDscp: boolean;
}

/**
 * Loads a datapath.
 * @param setTimer of the reference one; the native one has timers of its own
 * @returns what opens it, for frames from and to the kernel
 */
export async function datapathOpener(
  kind: 'native' | 'reference',
  { threads, copyDscp }: DatapathSettings,
  setTimer: typeof setTimeout,
): Promise<(options: DatapathOptions) => Datapath> {
  if (kind === 'reference') {
    const { openReferenceDatapath } = await import('./reference/reference.ts');
    const { FrameIo } = await import('./reference/frame-io.ts');
    return (options) =>
      openReferenceDatapath({ ...options, copyDscp, setTimer, io: (onWake, onLost) => new FrameIo(onWake, onLost) });
  }
  const { openNativeDatapath } = await import('./native/native.ts');
  return (options) => openNativeDatapath({ ...options, threads, copyDscp });
}
