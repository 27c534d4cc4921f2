/** A conversation needs one decision in each direction, so that a burst waits for none. */
import t from 'tap';
import { datapaths, fromWeb, lab, macs, blueGateway } from '../pipeline/routing-lab.ts';
import { tcp, udp } from '../support/frames.ts';

const [SYN, ACK] = [0x02, 0x10];
/** More than wait for a decision together. */
const BURST = 100;

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(name, async (t) => {
    function start() {
      const it = lab(open);
      const decisions = () => it.forwarding.datapath.counters().upcalls;
      return { ...it, decisions };
    }
    const asks = (flags: number, sourcePort = 5001) =>
      tcp({ ...fromWeb, dst: '10.2.0.2' }, { sourcePort, destinationPort: 80, flags });
    const answers = (flags: number) =>
      tcp(
        { srcMac: macs.db, dstMac: blueGateway, src: '10.2.0.2', dst: '10.1.0.2' },
        { sourcePort: 80, destinationPort: 5001, flags },
      );

    t.test('what follows the first packet, and the first reply, is decided with them', async (t) => {
      const { net, web, db, decisions, drops } = start();
      web.send(asks(SYN));
      db.send(answers(SYN | ACK));
      const before = decisions();
      t.equal(before, 2);
      for (let i = 0; i < BURST; i++) web.send(asks(ACK));
      for (let i = 0; i < BURST; i++) db.send(answers(ACK));
      t.equal(decisions(), before);
      t.same([db.received.length, web.received.length], [1 + BURST, 1 + BURST]);
      t.same(drops(), {});
      net.close();
    });

    t.test('also for datagrams that nobody answers', async (t) => {
      const { net, web, db, decisions } = start();
      const datagram = udp({ ...fromWeb, dst: '10.2.0.2' }, 5000, 53);
      for (let i = 0; i < BURST; i++) web.send(datagram);
      t.equal(decisions(), 1);
      t.equal(db.received.length, BURST);
      net.close();
    });

    t.test('a port that scans has one flow for each of its conversations, not two', async (t) => {
      const { net, web, forwarding } = start();
      const { flows } = forwarding.controller;
      web.send(udp({ ...fromWeb, dst: '10.2.0.2' }, 5000, 53));
      t.equal(flows.size, 2);
      const shareOf = flows.shareOf.bind(flows);
      flows.shareOf = (port) => shareOf(port) + (port === web.portNo ? 1 / 16 : 0);
      web.send(udp({ srcMac: macs.web, dstMac: macs.fw, src: '10.1.0.2', dst: '10.1.0.3' }, 5000, 53));
      t.equal(flows.size, 3);
      net.close();
    });

    t.test('another conversation between the same ends needs no decision at all', async (t) => {
      const { net, web, db, decisions } = start();
      web.send(asks(SYN));
      web.send(asks(SYN, 5002));
      web.send(asks(ACK, 5002));
      t.equal(decisions(), 1);
      t.equal(db.received.length, 3);
      net.close();
    });
  });
}
