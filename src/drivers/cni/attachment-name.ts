/**
 * How an attachment of a runtime is known: by the configuration, the container and the interface, which the specification makes
 * unique. The endpoint has them in an annotation, so that they live and go with it.
 */
import { createHash } from 'node:crypto';
import { asName, LONGEST_NAME } from '../name.ts';

export interface CniAttachment {
  /** The name of the configuration. */
  readonly configuration: string;
  readonly containerId: string;
  readonly ifname: string;
}

/** None of them has a slash in it. */
export function attachmentText({ configuration, containerId, ifname }: CniAttachment): string {
  return `${configuration}/${containerId}/${ifname}`;
}

export function parseAttachment(text: string): CniAttachment | undefined {
  const [configuration, containerId, ifname, ...more] = text.split('/');
  if (!configuration || !containerId || !ifname || more.length > 0) return undefined;
  return { configuration, containerId, ifname };
}

const FIRST_IFNAME = 'eth0';
const ID_LETTERS = 12;
const HASH_LETTERS = 8;

/**
 * The name of its endpoint: that of the container, since services and people know it by that. Further interfaces of a container
 * have theirs behind it, and who comes second to a name has something of its own.
 */
export function endpointName(
  attachment: CniAttachment,
  containerName: string | undefined,
  isTaken: (name: string) => boolean,
): string {
  const { containerId, ifname } = attachment;
  const container = asName(containerName ?? '') || asName(`cni-${containerId.slice(0, ID_LETTERS)}`);
  const name = ifname === FIRST_IFNAME ? container : asName(`${container}-${ifname}`);
  if (!isTaken(name)) return name;
  const hash = createHash('sha256').update(attachmentText(attachment)).digest('hex').slice(0, HASH_LETTERS);
  return `${asName(name.slice(0, LONGEST_NAME - HASH_LETTERS - 1))}-${hash}`;
}
