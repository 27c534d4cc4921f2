/** A decision as text, after `ofproto/trace`: one line for each stage, with the fields that it read. */
import type { DecisionReport } from '../model/report.ts';
import { servicePortText } from '../model/service-port-text.ts';
import type { ChoiceReport } from '../model/service-report.ts';

/**
 * Columns for the name of a stage: the same in every decision, so that two of them can be compared line by line. Only where policies
 * are asked they are more.
 */
const STAGE_COLUMNS = 10;

export function decisionText({
  flow,
  resolved,
  stages,
  megaflow,
  actions,
  beyond = [],
  choice,
}: DecisionReport): string {
  const columns = stages.reduce((most, { stage }) => Math.max(most, stage.length), STAGE_COLUMNS);
  const lines = stages.map(
    ({ stage, because, read }) => `${stage.padEnd(columns)}  ${because}  (read: ${read.join(', ') || 'nothing'})`,
  );
  const head = [`Flow: ${flow}`, ...(resolved === undefined ? [] : [`Next hop: ${resolved}`])];
  const tail = [`Megaflow: ${megaflow}`, `Actions: ${actions}`, ...beyond.map((line) => `Then: ${line}`)];
  const chosen = choice === undefined ? '' : `\n${choiceText(choice)}`;
  return `${head.join('\n')}\n\n${lines.join('\n')}\n\n${tail.join('\n')}\n${chosen}`;
}

/** One line for each backend: the chosen one with the reason, others with their weights, and those that could not be chosen. */
export function choiceText({ service, subset, route, port, by, reason, candidates, excluded }: ChoiceReport): string {
  const named = ({ endpoint, address, host }: ChoiceReport['excluded'][number] | ChoiceReport['candidates'][number]) =>
    `${endpoint ?? address}${host === null ? '' : ` on ${host}`}`;
  const lines = [
    ...candidates.map((one) => {
      const what = `${named(one)}, ${endText(one.address, one.port)}, weight ${one.weight}`;
      return one.chosen ? `-> ${what}: ${reason}` : `   ${what}`;
    }),
    ...excluded.map((one) => `   not ${named(one)}: ${one.why}`),
  ];
  const where = `port ${port.name === '' ? '' : `${port.name}, `}${servicePortText(port)}`;
  const part = subset === undefined ? '' : `, subset ${subset}`;
  return `${route ? takenText(route) : ''}Backend of service ${service}${part}, ${where}, by ${by}:\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

/** One line for each destination of the route, and which one it was. */
function takenText({ service, virtualService, destinations }: NonNullable<ChoiceReport['route']>): string {
  const lines = destinations.map((one) => {
    const what = one.subset === undefined ? one.service : `${one.service}, subset ${one.subset}`;
    return `  ${one.chosen ? '->' : '  '} ${what}, weight ${one.weight}\n`;
  });
  return `Route of service ${service}, by virtualservice ${virtualService}:\n${lines.join('')}`;
}

function endText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
