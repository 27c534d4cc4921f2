/**
 * weft's one class of errors. `code` is stable and for programs; the message is one line for people:
 * what is wrong, the value, and what is accepted.
 */
export type ErrorCode =
  /** Wrong usage of the command line: exit code 2. */
  | 'usage'
  /** A value that is not accepted. */
  | 'invalid'
  | 'not_found'
  /** Taken, in use, or not possible in this state. */
  | 'conflict'
  /** A limit or a pool is used up. */
  | 'exhausted'
  /** The kernel refused: rights, missing features, addresses in use. */
  | 'system'
  /** The daemon cannot be reached. */
  | 'unreachable'
  /** The stored state is damaged or of another version. */
  | 'state'
  | 'internal';

export class WeftError extends Error {
  readonly code: ErrorCode;
  /** The declared resource that it is about, where several were applied at once. */
  declare resource?: { readonly kind: string; readonly name: string; readonly namespace?: string | undefined };

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'WeftError';
    this.code = code;
  }
}

/** What to do about `EMFILE` and `ENFILE`; undefined for any other code. */
export function descriptorsText(code: string | undefined): string | undefined {
  if (code === 'EMFILE') {
    return 'no file descriptors are left to weft: raise LimitNOFILE of its unit (`ulimit -n`), or detach what is not used';
  }
  return code === 'ENFILE' ? 'no file descriptors are left on this machine: raise fs.file-max' : undefined;
}
