/** What went wrong in a call to etcd: gRPC's status, and what it means. */
import { status, type ServiceError } from '@grpc/grpc-js';
import { WeftError } from '../../error.ts';

/** As whom weft uses etcd, and for what. */
export interface Access {
  /** Below that are its keys. */
  readonly prefix: string;
  /** Undefined if etcd knows the user by the certificate, or asks for none. */
  readonly user: string | undefined;
  /** Undefined without TLS. */
  readonly tls: { readonly hasCa: boolean; readonly hasCertificate: boolean } | undefined;
}

/** Why a call was not answered as it should be. Never leaves this folder. */
export class Failure extends Error {
  readonly status: status;
  /** What etcd says, or gRPC. */
  readonly text: string;

  constructor(code: status, text: string) {
    super(text);
    this.status = code;
    this.text = text;
  }

  static of(error: unknown): Failure {
    if (error instanceof Failure) return error;
    const { code, details, message } = error as Partial<ServiceError>;
    return new Failure(typeof code === 'number' ? code : status.UNKNOWN, details ?? message ?? String(error));
  }

  /** Another member may answer. */
  get isLoss(): boolean {
    return LOSSES.includes(this.status);
  }

  /** The request never came to be part of the history. */
  get isCertain(): boolean {
    return !this.isLoss || NEVER_SENT.test(this.text);
  }

  /** A token is no longer valid, or needed by now: it has expired, the member has restarted, or users were changed. */
  get isOldToken(): boolean {
    return this.status === status.UNAUTHENTICATED || OLD_TOKEN.test(this.text);
  }

  /** The member has too much to do, and has not begun with this. */
  get isBusy(): boolean {
    return this.status === status.RESOURCE_EXHAUSTED && this.text.includes('too many requests');
  }

  /** The member has no space: it answers, and takes nothing that is written, whatever it is. */
  get isFull(): boolean {
    return this.status === status.RESOURCE_EXHAUSTED && !this.isBusy && !this.isTooLong;
  }

  /** The answer has more bytes than this process accepts. */
  get isTooLong(): boolean {
    return this.status === status.RESOURCE_EXHAUSTED && this.text.includes('larger than max');
  }

  get isCompacted(): boolean {
    return this.status === status.OUT_OF_RANGE;
  }

  get isNotFound(): boolean {
    return this.status === status.NOT_FOUND;
  }

  /** @param where names the store */
  toWeftError(where: string, access: Access): WeftError {
    const { text } = this;
    const isTooLarge = this.isTooLong || text.includes('too large');
    const isAway = this.isLoss || REFUSALS.includes(this.status);
    const code = isTooLarge ? 'exhausted' : isAway ? 'unreachable' : 'system';
    return new WeftError(code, `${where}: ${whyText(this, access)}`, { cause: this });
  }
}

const LOSSES: readonly status[] = [
  status.UNAVAILABLE,
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.INTERNAL,
  status.UNKNOWN,
  status.ABORTED,
];
/** It has no space, or the user has no permission: nothing was done. */
const REFUSALS: readonly status[] = [status.RESOURCE_EXHAUSTED, status.PERMISSION_DENIED];
const OLD_TOKEN = /revision of auth store is old|user name is empty/;
const NEVER_SENT = /^No connection established|^etcdserver: no leader/;

type Meaning = string | ((access: Access) => string);

/** Who expects another protocol answers and resets the connection. Which of the two comes first is a matter of chance. */
const brokenOff = ({ tls }: Access): string =>
  tls
    ? 'it ends the connection, or does not answer with TLS: if it has none, leave tls out'
    : 'it ends the connection at once: it may expect TLS (tls)';

const untrusted = ({ tls }: Access): string =>
  tls?.hasCa
    ? 'its certificate is not of the authority in tls.ca'
    : 'its certificate is of an authority that this system does not know: set tls.ca to the file of that authority';

const certificateRefused = ({ tls }: Access): string =>
  tls?.hasCertificate
    ? 'it does not accept tls.certificate'
    : 'it requires a certificate of its clients: set tls.certificate and tls.key';

const userText = ({ user }: Access): string => (user === undefined ? 'the user of tls.certificate' : `user "${user}"`);

/** What gRPC, Node.js or OpenSSL say, and what it means to an operator. */
const MEANINGS: readonly (readonly [pattern: RegExp, meaning: Meaning])[] = [
  [/ECONNREFUSED/, 'nothing listens there (connection refused)'],
  [/EHOSTUNREACH|ENETUNREACH/, 'there is no route to it'],
  [/ENOTFOUND|EAI_AGAIN|Name resolution failed/, 'its name cannot be resolved'],
  [/ETIMEDOUT/, 'it does not answer'],
  [/self-signed|unable to verify|unable to get (?:local )?issuer/, untrusted],
  [/certificate has expired/, 'its certificate has expired'],
  [/certificate is not yet valid/, 'its certificate is not valid yet: compare the clocks'],
  [/does not match certificate's altnames/, 'its certificate is not for this address'],
  [/alert certificate expired/, 'it says that the certificate in tls.certificate has expired'],
  [/alert (?:bad certificate|unknown ca|certificate required|handshake failure)/, certificateRefused],
  [
    /wrong version number|packet length too long|before secure TLS|Failed to connect|ECONNRESET|socket hang up/,
    brokenOff,
  ],
  [
    /invalid user ID or password/,
    (access) => `it does not accept ${userText(access)} with the password in passwordFile`,
  ],
  [/user name is empty/, 'it requires a user: set user and passwordFile'],
  [
    /permission denied/,
    (access) =>
      `${userText(access)} may not read and write below "${access.prefix}": \`etcdctl role grant-permission ROLE --prefix=true readwrite ${access.prefix}\`, with a role of that user`,
  ],
  [/message parsing error|Protocol error/, 'its answer makes no sense: something else than etcd may listen there'],
  [/space exceeded/, 'database space exceeded: compact and defragment it, then `etcdctl alarm disarm`'],
  [/no leader/, 'it has no leader: most members are away'],
];

/** One line for people. */
export function whyText({ text }: Failure, access: Access): string {
  const [, meaning] = MEANINGS.find(([pattern]) => pattern.test(text)) ?? [];
  return typeof meaning === 'function' ? meaning(access) : (meaning ?? plain(text));
}

const TIME_STAMP = / \(\d{4}-\d\d-\d\dT[\d:.]+Z\)/g;

function plain(text: string): string {
  const [, last] = /Last error: (.*?)\.? Resolution note:/.exec(text) ?? [];
  // What is told again only if it has changed has no time in it.
  return (last ?? text)
    .replace(/^etcdserver: /, '')
    .replace(TIME_STAMP, '')
    .trim();
}
