/** The body of a request, as far as it may be read. */
import { WeftError } from '../error.ts';

/** @throws WeftError('invalid') also if the client left before it had sent everything; nobody reads it then */
export async function readBody({ body }: Request, limitBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let lengthBytes = 0;
  try {
    for await (const chunk of body ?? []) {
      lengthBytes += chunk.length;
      if (lengthBytes > limitBytes) break;
      chunks.push(chunk);
    }
  } catch (error) {
    throw new WeftError('invalid', `the request ended before its end: ${(error as Error).message}`, { cause: error });
  }
  if (lengthBytes > limitBytes) throw new WeftError('invalid', `the request is larger than ${limitBytes} bytes`);
  return Buffer.concat(chunks).toString();
}
