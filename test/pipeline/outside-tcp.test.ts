/** How TCP connections through the outside are tracked, on both datapaths, whatever others send in between. */
import t from 'tap';
import { tcp } from '../support/frames.ts';
import { SYN, ACK, FIN, RST, web, datapaths, lab, leaving, entering } from './outside-lab.ts';

for (const [name, open] of Object.entries(datapaths)) {
  void t.test(`TCP of the outside on ${name}`, async (t) => {
    t.test('RST and SYN count only with a sequence number that can be right (RFC 5961)', async (t) => {
      const { net, web: port, outside, states, natPort } = lab(open);
      const out = (flags: number, sequence: number, acknowledgment = 0): void =>
        port.send(
          tcp(leaving(web, 'ip4'), { sourcePort: 40_000, destinationPort: 80, flags, sequence, acknowledgment }),
        );
      const back = (flags: number, sequence: number, acknowledgment = 0): void =>
        outside.send(
          tcp(entering('ip4'), { sourcePort: 80, destinationPort: natPort(), flags, sequence, acknowledgment }),
        );
      out(SYN, 100);
      back(SYN | ACK, 500, 101);
      out(ACK, 101, 501);
      back(RST, 5000);
      back(SYN, 900);
      back(RST, 502);
      t.same(states(), ['established'], 'guesses change nothing');
      t.equal(port.received.length, 4, 'but are for the receiver to judge');
      out(FIN | ACK, 101, 501);
      t.same(states(), ['closing']);
      back(FIN | ACK, 501, 102);
      t.same(states(), ['time_wait']);
      out(SYN, 9000);
      back(SYN | ACK, 7000, 9001);
      out(ACK, 9001, 7001);
      t.same(states(), ['established'], 'the same ports again');
      back(RST, 7001);
      t.same(states(), ['closed']);
      net.advance(11_000);
      t.same(states(), []);
      net.close();
    });

    /** A TCP connection: what each side sends, and its state. */
    const conversation = () => {
      const made = lab(open);
      const ports = { sourcePort: 40_000, destinationPort: 80 };
      const out = (flags: number, sequence: number, acknowledgment = 0, payload = new Uint8Array()): void =>
        made.web.send(tcp(leaving(web, 'ip4'), { ...ports, flags, sequence, acknowledgment, payload }));
      const back = (flags: number, sequence: number, acknowledgment = 0, payload = new Uint8Array()): void =>
        made.outside.send(
          tcp(entering('ip4'), {
            ...{ sourcePort: 80, destinationPort: made.natPort(), flags },
            ...{ sequence, acknowledgment, payload },
          }),
        );
      const shake = (): void => {
        out(SYN, 100);
        back(SYN | ACK, 500, 101);
        out(ACK, 101, 501);
      };
      return { ...made, out, back, shake };
    };

    t.test('blind segments do not prepare the way for one that ends the connection', async (t) => {
      for (const jump of [1 << 27, 1 << 30, 2 ** 31 - 1, 2 ** 31]) {
        const { net, out, back, shake, states } = conversation();
        shake();
        const guess = (501 + jump) >>> 0;
        back(ACK, guess, 101);
        back(RST, guess);
        back(FIN | ACK, guess, 101);
        back(ACK, 501, (101 + jump) >>> 0);
        t.same(states(), ['established'], `${jump} ahead`);
        back(ACK, 501, 101, new Uint8Array(1000));
        out(ACK, 101, 1501, new Uint8Array(10));
        back(FIN | ACK, 1501, 111);
        t.same(states(), ['closing'], 'and the connection itself is followed as before');
        out(FIN | ACK, 111, 1502);
        t.same(states(), ['time_wait']);
        net.close();
      }
    });

    t.test('nor do those that are near, and acknowledge what cannot be', async (t) => {
      for (const acknowledgment of [102, 101 + 2 ** 31, (101 - 2 ** 27) >>> 0]) {
        const { net, out, back, shake, states } = conversation();
        shake();
        for (const guess of [501, 1501, 501 + (1 << 20)]) {
          back(FIN | ACK, guess, acknowledgment);
          back(ACK, guess + 1, acknowledgment);
          back(RST, guess + 1);
        }
        t.same(states(), ['established'], `of ${acknowledgment}`);
        back(ACK, 501, 101, new Uint8Array(1000));
        back(RST, 1501);
        t.same(states(), ['closed'], 'and the connection itself is followed as before');
        out(ACK, 101, 1501);
        net.close();
      }
    });

    t.test('an ACK that acknowledges nothing that was sent establishes nothing', async (t) => {
      const { net, out, back, states } = conversation();
      out(SYN, 100);
      back(SYN | ACK, 500, 101);
      out(ACK, 101, 10_000_000);
      t.same(states(), ['syn_received']);
      out(ACK, 101, 501);
      t.same(states(), ['established']);
      net.close();
    });

    t.test('RST counts behind data that is in flight, and FIN behind data that was lost', async (t) => {
      const { net, out, back, shake, states } = conversation();
      shake();
      back(FIN | ACK, 4501, 101, new Uint8Array(1000));
      t.same(states(), ['closing'], '4000 bytes before it did not come');
      out(ACK, 101, 501, new Uint8Array(1000));
      out(RST, 1101);
      t.same(states(), ['closed']);
      net.close();
    });

    t.test('a SYN with another number before any answer is the one that is answered', async (t) => {
      const { net, out, back, states } = conversation();
      out(SYN, 100);
      out(SYN, 9000);
      back(RST | ACK, 0, 101);
      t.same(states(), ['syn_received'], 'no refusal of it');
      back(RST | ACK, 0, 9001);
      t.same(states(), ['closed']);
      net.close();
    });
  });
}
