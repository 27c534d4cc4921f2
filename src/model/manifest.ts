/** From text and plain values to resources. What is refused is named in one line. */
import { WeftError } from '../error.ts';
import { parseDocuments } from './document.ts';
import { type Problem, problemOf, valueText } from './problem.ts';
import { apiVersion, type Kind, kinds, type Resource, schemas } from './resource.ts';

/**
 * The resources in YAML or JSON of one or more documents; all are valid, or it throws.
 * @param source what messages call the text: its path.
 * @throws WeftError `invalid`: `net.yaml:7:8: spec.vni: 0 is not accepted: a VNI is 1 to 16777215`
 */
export function parseManifests(text: string, source: string): Resource[] {
  return parseDocuments(text, source).map(({ value, position }) => {
    const checked = check(value);
    if ('resource' in checked) return checked.resource;
    const { path, isKey, text: message } = checked.problem;
    throw new WeftError('invalid', `${position(path, isKey)}: ${message}`);
  });
}

/** @throws WeftError `invalid`: `Network "blue": spec.vni: 0 is not accepted: a VNI is 1 to 16777215` */
export function parseResource(value: unknown): Resource {
  const checked = check(value);
  if ('resource' in checked) return checked.resource;
  throw new WeftError('invalid', `${titleOf(value)}${checked.problem.text}`);
}

type Checked = { readonly resource: Resource } | { readonly problem: Problem };

/** Which schema it is held against is decided by `apiVersion` and `kind`, so these come first. */
function check(value: unknown): Checked {
  const refuse = (path: readonly string[], text: string): Checked => ({ problem: { path, text, isKey: false } });
  if (!isMapping(value))
    return refuse([], `${valueText(value)} is not accepted: a resource is a mapping of fields to values`);
  for (const [field, accepted] of [
    ['apiVersion', [apiVersion]],
    ['kind', kinds],
  ] as const) {
    const given = value[field];
    const words = `accepted ${accepted.length === 1 ? 'is' : 'are'} ${accepted.join(', ')}`;
    if (given === undefined) return refuse([field], `${field} is missing: ${words}`);
    if (!accepted.some((word) => word === given)) {
      return refuse([field], `${field}: ${valueText(given)} is not accepted: ${words}`);
    }
  }
  const schema = schemas[value.kind as Kind];
  const { status: _, ...declared } = value;
  const result = schema.safeParse(declared);
  return result.success ? { resource: result.data } : { problem: problemOf(schema, declared, result.error) };
}

/** `Network "blue": `, as much of it as there is. */
function titleOf(value: unknown): string {
  if (!isMapping(value) || !kinds.some((kind) => kind === value.kind)) return '';
  const name = isMapping(value.metadata) ? value.metadata.name : undefined;
  return typeof name === 'string' ? `${String(value.kind)} ${valueText(name)}: ` : `${String(value.kind)}: `;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
