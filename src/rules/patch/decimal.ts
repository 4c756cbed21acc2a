/** Exact sums and comparisons of JSON numbers of any size, as decimal digits. Pure. */

/** digits × 10 ^ exponent. */
export interface Decimal {
  digits: bigint;
  exponent: number;
}

/** Digits before and behind the point, of a number that is worked with. */
export const DIGITS_MAX = 5000;

/** Reads a JSON number. Null: it has more digits than DIGITS_MAX once it is written out. */
export function readDecimal(text: string): Decimal | null {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/.exec(text);
  if (match === null) throw new Error(`${text} is no JSON number`);
  const [, sign, whole, fraction = "", power = "0"] = match;
  const digits = (whole + fraction).replace(/^0+(?=\d)/, "");
  const exponent = Number(power) - fraction.length;
  if (digits === "0") return { digits: 0n, exponent: 0 };
  if (digits.length + Math.abs(exponent) > DIGITS_MAX) return null;
  return { digits: BigInt(sign + digits), exponent };
}

export function add(a: Decimal, b: Decimal): Decimal {
  const exponent = Math.min(a.exponent, b.exponent);
  return { digits: scaled(a, exponent) + scaled(b, exponent), exponent };
}

/** Below zero, zero, or above: as a is less than b, equal, or more. */
export function compare(a: Decimal, b: Decimal): number {
  const exponent = Math.min(a.exponent, b.exponent);
  const difference = scaled(a, exponent) - scaled(b, exponent);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** Written out, without zeros at the end of a fraction. */
export function textOf({ digits, exponent }: Decimal): string {
  if (exponent >= 0) return String(digits * 10n ** BigInt(exponent));
  const sign = digits < 0n ? "-" : "";
  const all = String(digits < 0n ? -digits : digits).padStart(1 - exponent, "0");
  const fraction = all.slice(exponent).replace(/0+$/, "");
  const whole = all.slice(0, exponent);
  const number = fraction === "" ? whole : `${whole}.${fraction}`;
  return number === "0" ? "0" : sign + number;
}

function scaled({ digits, exponent }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(exponent - to);
}
