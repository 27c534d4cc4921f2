/** A port of a service, as it is shown everywhere. */
import type { ServiceReport } from './service-report.ts';

export type ShownServicePort = Omit<ServiceReport['ports'][number], 'name'>;

/** `80/TCP`, `80:30080/TCP` with a port that all hosts publish, `5060-5160/UDP`. */
export function servicePortText({ port, lastPort = port, nodePort, protocol }: ShownServicePort): string {
  const text = (first: number): string => (lastPort === port ? String(first) : `${first}-${first + lastPort - port}`);
  return `${text(port)}${nodePort === undefined ? '' : `:${text(nodePort)}`}/${protocol}`;
}
