/** What the addon has for passing.ts (native/addon_passing.cc). */

/** Errors are negative errno. */
export interface PassingAddon {
  readonly PacketReader: new (
    connection: number,
    onMessage: (message: PassedMessage | number) => void,
  ) => { close(): void };
  listenPackets(path: string): number;
  acceptPackets(listener: number): number;
  connectPackets(path: string): number;
  peerOf(connection: number): number;
  sendMessage(connection: number, bytes: Uint8Array, descriptors: readonly number[], waitMs: number): number;
  receiveMessage(connection: number, waitMs: number): PassedMessage | number;
  duplicate(descriptor: number): number;
  closeOnExec(descriptor: number): number;
  notify(path: string, text: string, descriptors: readonly number[]): number;
  notifyBarrier(path: string, waitMs: number): number;
}

/** The descriptors belong to whoever has received it. */
export interface PassedMessage {
  readonly bytes: Uint8Array;
  readonly descriptors: readonly number[];
}
