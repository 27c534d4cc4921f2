/** Sorts names as people count: `web2` before `web10`. The order is total: only equal texts are equal. */

const isDigit = (code: number): boolean => code >= 48 && code <= 57;

/** Less than, equal to or more than 0, for `Array.sort`. Consecutive digits compare as a number. */
export function compareNames(a: string, b: string): number {
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const [codeA, codeB] = [a.charCodeAt(i), b.charCodeAt(j)];
    if (isDigit(codeA) && isDigit(codeB)) {
      const [endA, endB] = [endOfDigits(a, i), endOfDigits(b, j)];
      const difference = Number(a.slice(i, endA)) - Number(b.slice(j, endB));
      if (difference !== 0) return difference;
      [i, j] = [endA, endB];
    } else if (codeA !== codeB) {
      return codeA - codeB;
    } else {
      i++;
      j++;
    }
  }
  const left = a.length - i - (b.length - j);
  if (left !== 0) return left;
  // "web02" and "web2"
  return a < b ? -1 : a > b ? 1 : 0;
}

function endOfDigits(text: string, from: number): number {
  let end = from;
  while (end < text.length && isDigit(text.charCodeAt(end))) end++;
  return end;
}
