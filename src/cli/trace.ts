/** `weft trace`: decides one synthetic frame and shows each stage. */
import type { Command } from 'commander';
import { decisionText } from './decision.ts';
import { print } from './print.ts';
import { clientOf, globals, verb } from './verb.ts';

export function trace(program: Command): void {
  verb(program, 'trace <flow>', {
    summary: 'decide one synthetic frame: every stage, the mask and the actions',
    examples: [
      "weft trace 'in_port=web,tcp,ip_dst=10.0.0.3,tcp_dst=80'",
      "weft trace 'in_port=web,tcp,ip_dst=10.96.0.80,tcp_dst=80'    # a service: which backend, or why it is refused",
      "weft trace 'in_port=web,icmp6,ip_dst=fd00::3'",
    ],
  }).action(async (flow: string, _, command: Command) => {
    const report = await clientOf(command).trace(flow);
    await print(globals(command).output, report, () => decisionText(report));
  });
}
