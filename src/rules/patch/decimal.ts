/** Exact sums and comparisons of JSON numbers of any size, as decimal digits. Pure. */

/** digits × 10 ^ exponent. */
export interface Decimal {
  digits: bigint;
  exponent: number;
}

/** Digits before and behind the point, of a number that is worked with. */
const DIGITS_MAX = 5000;

const SYNTAX = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/;

/** Sign, digits before and behind the point, and the power of ten, of a JSON number. */
function partsOf(text: string): [sign: string, whole: string, fraction: string, power: string] {
  const match = SYNTAX.exec(text);
  if (match === null) throw new Error("this is no JSON number");
  const [, sign, whole, fraction = "", power = "0"] = match;
  return [sign, whole, fraction, power];
}

/** Reads a JSON number. Null: it has more digits than DIGITS_MAX once it is written out. */
export function readDecimal(text: string): Decimal | null {
  const [sign, whole, fraction, power] = partsOf(text);
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

/** Whether two JSON numbers have the same value, whatever their size. */
export function areEqual(a: string, b: string): boolean {
  return normalOf(a) === normalOf(b);
}

/** The same text for all ways to write a number. */
function normalOf(text: string): string {
  const [sign, whole, fraction, power] = partsOf(text);
  const digits = whole + fraction;
  let start = 0;
  while (digits[start] === "0") start++;
  if (start === digits.length) return "0";
  let end = digits.length;
  while (digits[end - 1] === "0") end--;
  const exponent = BigInt(power) + BigInt(digits.length - end - fraction.length);
  return `${sign}${digits.slice(start, end)}e${exponent}`;
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
