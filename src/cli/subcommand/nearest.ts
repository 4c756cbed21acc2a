/** What somebody probably meant who mistyped a name. */

/** The nearest of the names, or null when none is near. */
export function nearestName(typed: string, names: readonly string[]): string | null {
  const distances = names.map((name) => distance(typed.toLowerCase(), name));
  const least = Math.min(...distances);
  const nearest = names[distances.indexOf(least)];
  return nearest !== undefined && least <= Math.max(1, Math.floor(nearest.length / 2)) ? nearest : null;
}

/** What is said of a flag that is none of these. */
export function unknownFlag(typed: string, names: readonly string[]): string {
  const nearest = nearestName(typed, names);
  return `unknown flag "-${typed}"${nearest === null ? "" : `, did you mean -${nearest}?`}`;
}

/**
 * Number of characters to put in, take out, replace or swap with their neighbour (optimal string alignment).
 */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (isSame ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1);
      }
    }
  }
  return rows[a.length][b.length];
}
