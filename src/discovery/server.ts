/**
 * The DNS server, which runs in the thread of weft's own sockets and is reached at the gateway of every network.
 *
 *   question ─► is it one? (`message.ts`) ─► weft's names (`zone.ts`) ─► answer
 *                                                 │ none of weft's
 *                                                 ▼
 *                          the network has an outside: the host's name servers (`foreign-names.ts`); else REFUSED
 *
 * What weft knows about a client decides what it sees, so nothing here looks at the addresses of packets. The zone is told
 * by the switch, and complete before the first question comes.
 */
import type { OpenServer } from '../internal/server.ts';
import type { SocketClient } from '../table/clients.ts';
import { ForeignNames } from './foreign-names.ts';
import {
  CLASS_IN,
  datagramLimit,
  MOST_BYTES,
  readQuestion,
  writeRefusal,
  writeResponse,
  type Response,
} from './message.ts';
import { QuestionRates } from './question-rates.ts';
import type { ZoneChange } from './records.ts';
import { answerStream } from './stream.ts';
import { TTL_S, Zone, type ZoneAnswer, type ZoneClient } from './zone.ts';

/** Transfers of whole zones, which nobody gets. */
const TRANSFERS: readonly string[] = ['AXFR', 'IXFR'];

type Answered = Uint8Array | Promise<Uint8Array | undefined> | undefined;

const open: OpenServer = (surroundings) => {
  const zone = new Zone(surroundings.randomBelow);
  const foreign = new ForeignNames(surroundings);
  const rates = new QuestionRates(surroundings.clock);

  /** @param isStream answers may be as long as messages can be */
  const answer = (message: Uint8Array, client: SocketClient, isStream: boolean): Answered => {
    const question = readQuestion(message);
    if (!('name' in question)) {
      return question.rcode === undefined ? undefined : writeRefusal(question);
    }
    const limit = isStream ? MOST_BYTES : datagramLimit(question.edns);
    const isRecursive = zone.network(client.network)?.outside ?? false;
    const respond = (response: Partial<Response>): Uint8Array =>
      writeResponse(question, { rcode: 'NOERROR', isAuthoritative: false, isRecursive, ...response }, limit, TTL_S);
    if (question.edns && question.edns.version !== 0) return respond({ rcode: 'BADVERS' });
    if (question.class !== CLASS_IN || TRANSFERS.includes(question.type)) return respond({ rcode: 'REFUSED' });
    const found = zone.answer(question.name, question.type, zoneClient(client));
    if (found?.leadsTo !== undefined && isRecursive) {
      return foreign.follow(question, found.leadsTo, client.id).then((more) => {
        const { rcode, records } = more ?? { rcode: 'SERVFAIL', records: [] };
        return respond({ rcode, isAuthoritative: true, answers: [...found.answers, ...records] });
      });
    }
    if (found) return respond({ isAuthoritative: true, ...sections(found) });
    if (!isRecursive) return respond({ rcode: 'REFUSED' });
    return foreign.forward(question, client.id, limit).then((message) => message ?? respond({ rcode: 'SERVFAIL' }));
  };

  const sections = ({ rcode, answers, additionals, missing }: ZoneAnswer): Partial<Response> => ({
    ...{ rcode, answers, additionals },
    authorities: missing === undefined ? [] : [zone.soa(missing)],
  });

  return {
    datagram(message, client, reply) {
      const answered = answer(message, client, false);
      if (answered instanceof Promise) return answered.then((bytes) => bytes && reply(bytes));
      if (answered) reply(answered);
      return undefined;
    },
    connection(socket, client) {
      const { after, onFailed } = surroundings;
      const takeTurn = (): number => rates.take(client.id);
      answerStream(socket, { after, onFailed, takeTurn, answer: (message) => answer(message, client, true) });
    },
    told(piece) {
      for (const change of piece as readonly ZoneChange[]) zone.apply(change);
      foreign.avoid((ip) => zone.isGateway(ip));
    },
  };
};

export default open;

/** Endpoints are known by `NAME` in the namespace `default`, and by `NAMESPACE/NAME` in others. */
function zoneClient({ network, endpoint }: SocketClient): ZoneClient {
  const at = endpoint.indexOf('/');
  return { network, namespace: at < 0 ? 'default' : endpoint.slice(0, at) };
}
