/** One workload asks another one, in a simulation, and goes on with that for as long as it is answered. */
import type { SimulatedPort } from '../../../src/simulation.ts';
import { tcp, udp } from '../frames.ts';
import { parsePacket } from '../packets.ts';
import type { Random } from '../random.ts';
import { macOf } from './simulated-places.ts';
import { endpointName } from './tables.ts';
import { protocolNumbers, type Packet, type World } from './world.ts';

const PORTS = [80, 443];
const [SYN, ACK] = [2, 16];

export class Talk {
  readonly packet: Packet;
  readonly #sourcePort: number;
  readonly #ports: readonly [SimulatedPort, SimulatedPort];
  readonly #macs: readonly [string, string];
  /** What was sent last was answered. */
  isOpen = false;

  /** @param sourcePort no other one's @param ports by endpoint */
  constructor(random: Random, { pods }: World, sourcePort: number, ports: ReadonlyMap<string, SimulatedPort>) {
    const from = random.pick(pods);
    // About its own address policies are not asked.
    const to = random.pick(pods.filter((pod) => pod !== from));
    const family = random.int(2);
    this.packet = {
      ...{ from: from.addresses[family]!, to: to.addresses[family]! },
      ...{ protocol: protocolNumbers[random.pick(['TCP', 'UDP'] as const)], port: random.pick(PORTS) },
    };
    this.#ports = [ports.get(endpointName(from))!, ports.get(endpointName(to))!];
    this.#macs = [macOf(from), macOf(to)];
    this.#sourcePort = sourcePort;
  }

  /** Sends the first packet, or the next one, and what answers it. */
  ask(): 'allow' | 'deny' | 'no answer' {
    const [source, target] = this.#ports;
    const isFirst = !this.isOpen;
    source.send(this.#frame(false, isFirst));
    this.isOpen = packetsAt(target).some(({ sourcePort }) => sourcePort === this.#sourcePort);
    if (!this.isOpen) return 'deny';
    target.send(this.#frame(true, isFirst));
    const isAnswered = packetsAt(source).some(({ destinationPort }) => destinationPort === this.#sourcePort);
    return isAnswered ? 'allow' : 'no answer';
  }

  #frame(isAnswer: boolean, isFirst: boolean): Uint8Array {
    const { from, to, protocol, port } = this.packet;
    const [own, others] = this.#macs;
    const ends = isAnswer
      ? { src: to, dst: from, srcMac: others, dstMac: own }
      : { src: from, dst: to, srcMac: own, dstMac: others };
    const [sourcePort, destinationPort] = isAnswer ? [port, this.#sourcePort] : [this.#sourcePort, port];
    if (protocol === protocolNumbers.UDP) return udp(ends, sourcePort, destinationPort);
    const [sequence, acknowledgment] = isAnswer ? [isFirst ? 500 : 501, 101] : [isFirst ? 100 : 101, isFirst ? 0 : 501];
    const flags = isFirst ? (isAnswer ? SYN | ACK : SYN) : ACK;
    return tcp(ends, { sourcePort, destinationPort, sequence, acknowledgment, flags });
  }
}

/** Without ICMP errors, which some get whose packets are denied. */
function packetsAt({ received }: SimulatedPort): ReturnType<typeof parsePacket>[] {
  const isError = (frame: Uint8Array): boolean => (frame[12] === 8 ? frame[23] === 1 : frame[20] === 58);
  return received
    .splice(0)
    .filter((frame) => !isError(frame))
    .map((frame) => parsePacket(frame));
}
