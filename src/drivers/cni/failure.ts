/** Failures as the CNI specification numbers them (section "Error"); from 100 on they are weft's own. */
import { WeftError, type ErrorCode } from '../../error.ts';

export const CNI_CODES = {
  version: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  environment: 4,
  decoding: 6,
  configuration: 7,
  tryAgainLater: 11,
  notReady: 50,
  conflict: 100,
  exhausted: 101,
  system: 102,
  internal: 103,
} as const;

export type CniCode = (typeof CNI_CODES)[keyof typeof CNI_CODES];

export class CniFailure extends Error {
  readonly code: CniCode;
  readonly details: string;

  /** @param message what is wrong, in one line @param details more for people, if there is more */
  constructor(code: CniCode, message: string, details = '') {
    super(message);
    this.code = code;
    this.details = details;
  }
}

const codeOf = {
  usage: CNI_CODES.configuration,
  invalid: CNI_CODES.configuration,
  not_found: CNI_CODES.configuration,
  conflict: CNI_CODES.conflict,
  exhausted: CNI_CODES.exhausted,
  system: CNI_CODES.system,
  unreachable: CNI_CODES.tryAgainLater,
  state: CNI_CODES.tryAgainLater,
  internal: CNI_CODES.internal,
} as const satisfies Record<ErrorCode, CniCode>;

/** Any error, as a runtime reads it. */
export function asFailure(error: unknown): CniFailure {
  if (error instanceof CniFailure) return error;
  if (error instanceof WeftError) return new CniFailure(codeOf[error.code], error.message);
  return new CniFailure(CNI_CODES.internal, `internal error: ${(error as Error).message}`, "the daemon's log has more");
}
