/**
 * Freezes a JSON value with all its parts: all readers of an entry share it.
 * @param levels how deep it may be nested @throws RangeError if it is deeper
 */
export function deepFreeze<T>(value: T, levels = Infinity): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    if (levels === 0) throw new RangeError('a value is nested too deep');
    Object.freeze(value);
    for (const part of Object.values(value)) deepFreeze(part, levels - 1);
  }
  return value;
}
