/**
 * The end of a channel of gRPC, which grpc-js does not see to:
 *
 *   - for a channel that was closed right after an attempt that had failed, it connects once more, about a second later. If the
 *     member listens by then, that connection belongs to nobody, and stays until etcd is tired of its pings
 *   - a connection whose other end accepts it and says nothing is waited for without an end, also when the channel is closed
 *
 * So what makes a channel's connections makes none any more when the channel is closed, and ends those that it has made.
 */
import type { Socket } from 'node:net';
import type { ChannelCredentials } from '@grpc/grpc-js';

/** Credentials for one channel, like those that are given. */
export function untilClosed(credentials: ChannelCredentials): ChannelCredentials {
  const own = Object.create(credentials) as ChannelCredentials;
  own._createSecureConnector = (...means) => {
    const connector = credentials._createSecureConnector(...means);
    const open = new Set<Socket>();
    let isClosed = false;
    return {
      waitForReady: async () => {
        if (isClosed) throw new Error('the channel is closed');
        await connector.waitForReady();
      },
      connect: (socket) => {
        open.add(socket);
        socket.once('close', () => open.delete(socket));
        return connector.connect(socket);
      },
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => {
        isClosed = true;
        connector.destroy();
        for (const socket of open) socket.destroy();
      },
    };
  };
  return own;
}
