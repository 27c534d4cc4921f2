/**
 * The end of a channel of gRPC. grpc-js connects once more, about a second later, for a channel that was closed right after
 * an attempt that had failed. If the member listens by then, that connection belongs to nobody, and stays until etcd is tired
 * of its pings. So what makes a channel's connections makes none any more when the channel is closed.
 */
import type { ChannelCredentials } from '@grpc/grpc-js';

/** Credentials for one channel, like those that are given. */
export function untilClosed(credentials: ChannelCredentials): ChannelCredentials {
  const own = Object.create(credentials) as ChannelCredentials;
  own._createSecureConnector = (...means) => {
    const connector = credentials._createSecureConnector(...means);
    let isClosed = false;
    return {
      waitForReady: async () => {
        if (isClosed) throw new Error('the channel is closed');
        await connector.waitForReady();
      },
      connect: (socket) => connector.connect(socket),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => {
        isClosed = true;
        connector.destroy();
      },
    };
  };
  return own;
}
