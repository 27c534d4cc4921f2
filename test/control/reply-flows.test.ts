/** One decision for each connection through a service: its replies take the flow of the last connection of the same ends. */
import t from 'tap';
import { formatMac, type Vni } from '../../src/flow/types.ts';
import { parseEthernet } from '../../src/wire/ethernet.ts';
import { parseIpv4 } from '../../src/wire/ipv4.ts';
import { BLUE, blueGateway, datapaths, lab, macs, redGateway } from '../pipeline/routing-lab.ts';
import { arpReply, tcp } from '../support/frames.ts';
import { backend, service, VIP } from '../support/services.ts';

const [SYN, RST, ACK] = [0x02, 0x04, 0x10];
const BACKEND = '10.2.0.2';

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(name, async (t) => {
    function start() {
      const it = lab(open);
      const { forwarding } = it;
      forwarding.setService(service({ vips: [VIP], backends: [backend(BACKEND, { vni: BLUE as Vni })] }));
      const asks = (sourcePort: number, flags: number, src = '10.1.0.2', srcMac = macs.web) =>
        tcp({ srcMac, dstMac: redGateway, src, dst: '10.96.0.1' }, { sourcePort, destinationPort: 80, flags });
      const answers = (destinationPort: number, { dst = '10.1.0.2', ttl = 64 } = {}) =>
        tcp(
          { srcMac: macs.db, dstMac: blueGateway, src: BACKEND, dst, ip4: { ttl } },
          { sourcePort: 8080, destinationPort, flags: SYN | ACK },
        );
      /** How many decisions it takes. */
      const decisionsFor = (work: () => void): number => {
        const before = forwarding.datapath.counters().upcalls;
        work();
        return forwarding.datapath.counters().upcalls - before;
      };
      return { ...it, asks, answers, decisionsFor };
    }

    t.test('the second connection is decided once, and translated both ways', async (t) => {
      const { net, web, db, asks, answers, decisionsFor } = start();
      const connect = (port: number) => () => {
        web.send(asks(port, SYN));
        db.send(answers(port));
        web.send(asks(port, ACK));
      };
      t.equal(decisionsFor(connect(5001)), 2);
      t.equal(decisionsFor(connect(5002)), 1);
      t.equal(db.received.length, 4);
      const [one, other] = web.received.map((frame) => parseIpv4(parseEthernet(frame)!.payload)!);
      t.same(other!.source, one!.source, 'it comes from the service');
      net.close();
    });

    t.test('a reply that this flow does not cover is decided by itself', async (t) => {
      const { net, web, db, asks, answers, drops, decisionsFor } = start();
      web.send(asks(5001, SYN));
      db.send(answers(5001));
      web.send(asks(5002, SYN));
      t.equal(
        decisionsFor(() => db.send(answers(5002, { ttl: 1 }))),
        1,
      );
      t.same(drops(), { ttl_exceeded: 1 });
      net.close();
    });

    t.test('replies to two clients behind one port go to the MAC address of each', async (t) => {
      const { net, fw, db, asks, answers } = start();
      const clients = [10, 11].map((host) => ({ ip: `10.1.0.${host}`, mac: `02:00:00:00:01:${host}` }));
      for (const { ip, mac } of clients) {
        fw.send(asks(5000, SYN, ip, mac));
        db.send(answers(5000, { dst: ip }));
        fw.send(arpReply({ srcMac: mac, dstMac: redGateway, src: ip, dst: '10.1.0.1' }));
      }
      fw.received.length = 0;
      for (const port of [5001, 5002]) {
        for (const { ip, mac } of clients) {
          fw.send(asks(port, SYN, ip, mac));
          db.send(answers(port, { dst: ip }));
        }
      }
      const destinations = fw.received.map((frame) => formatMac(parseEthernet(frame)!.destination));
      t.same(
        destinations,
        [...clients, ...clients].map(({ mac }) => mac),
      );
      net.close();
    });

    t.test('a client that begins anew from the same port is decided once', async (t) => {
      const { net, web, db, asks, answers, decisionsFor } = start();
      web.send(asks(5001, SYN));
      db.send(answers(5001));
      web.send(asks(5001, RST));
      t.equal(
        decisionsFor(() => {
          web.send(asks(5001, SYN));
          db.send(answers(5001));
          web.send(asks(5001, ACK));
        }),
        1,
      );
      t.equal(web.received.length, 2);
      net.close();
    });

    t.test('where another endpoint has the client’s address by then, its replies go there', async (t) => {
      const { net, host, web, db, asks, answers } = start();
      web.send(asks(5001, SYN));
      db.send(answers(5001));
      host.detach('web');
      const mac = '02:00:00:00:00:09';
      const next = host.attach({ name: 'next', network: 'red', mac, addresses: ['10.1.0.2'] });
      next.send(asks(5002, SYN, '10.1.0.2', mac));
      db.send(answers(5002));
      t.equal(web.received.length, 1);
      t.equal(next.received.length, 1);
      net.close();
    });
  });
}
