/**
 * Dates of HTTP (RFC 9110, section 5.6.7): seconds since 1970, as text. Pure.
 */

const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Length of the one form that is written: "Sun, 06 Nov 1994 08:49:37 GMT". */
export const HTTP_DATE_BYTES = 29;
/** The longest day's name makes the longest form: "Wednesday, 06-Nov-94 08:49:37 GMT". */
const HTTP_DATE_CHARACTERS_MAX = 33;
const DAY_SECONDS = 86_400;
/**
 * A two-digit year that looks more than so many years ahead is of the century before (RFC 9110, section
 * 5.6.7).
 */
const YEARS_AHEAD_MAX = 50;

const TIME = "(\\d\\d):(\\d\\d):(\\d\\d)";
const IMF_FIXDATE = new RegExp(`^(?:${DAYS.join("|")}), (\\d\\d) (\\w{3}) (\\d{4}) ${TIME} GMT$`);
const RFC_850 = new RegExp(
  `^(?:Sun|Mon|Tues|Wednes|Thurs|Fri|Satur)day, (\\d\\d)-(\\w{3})-(\\d\\d) ${TIME} GMT$`,
);
const ASCTIME = new RegExp(`^(?:${DAYS.join("|")}) (\\w{3}) ([ \\d]\\d) ${TIME} (\\d{4})$`);

/**
 * Reads a date in any of the three forms that a recipient must know. Null: it is none.
 * @param nowMs decides the century of a year that has two digits
 */
export function readHttpDate(text: string, nowMs: number): number | null {
  if (text.length > HTTP_DATE_CHARACTERS_MAX) return null;
  const usual = IMF_FIXDATE.exec(text);
  if (usual !== null) {
    const [, day, month, year, ...time] = usual;
    return seconds(Number(year), month, Number(day), time);
  }
  const old = RFC_850.exec(text);
  if (old !== null) {
    const [, day, month, year, ...time] = old;
    const thisYear = new Date(nowMs).getUTCFullYear();
    const near = thisYear - (thisYear % 100) + Number(year);
    return seconds(near > thisYear + YEARS_AHEAD_MAX ? near - 100 : near, month, Number(day), time);
  }
  const oldest = ASCTIME.exec(text);
  if (oldest === null) return null;
  const [, month, day, hour, minute, second, year] = oldest;
  return seconds(Number(year), month, Number(day), [hour, minute, second]);
}

function seconds(year: number, monthName: string, day: number, time: readonly string[]): number | null {
  const month = MONTHS.indexOf(monthName);
  const [hour, minute, second] = time.map(Number);
  // 60 is a leap second, which Unix time does not count.
  if (month < 0 || hour > 23 || minute > 59 || second > 60) return null;
  const date = new Date(0);
  date.setUTCFullYear(year, month, day);
  if (date.getUTCMonth() !== month || date.getUTCDate() !== day) return null;
  return date.getTime() / 1000 + hour * 3600 + minute * 60 + second;
}

let writtenDay = -1;
const dayText = new Uint8Array("Sun, 06 Nov 1994 ".length);

/**
 * Writes the date's text at `at` of `target`. No allocation within a day: this is on the path of every GET.
 */
export function writeHttpDate(target: Uint8Array, at: number, unixSeconds: number): void {
  const day = Math.floor(unixSeconds / DAY_SECONDS);
  if (day !== writtenDay) {
    writtenDay = day;
    dayText.set(
      Buffer.from(new Date(day * DAY_SECONDS * 1000).toUTCString().slice(0, dayText.length), "latin1"),
    );
  }
  for (let index = 0; index < dayText.length; index++) target[at + index] = dayText[index];
  const time = unixSeconds - day * DAY_SECONDS;
  const hour = (time / 3600) | 0;
  const minute = ((time / 60) | 0) % 60;
  twoDigits(target, at + 17, hour);
  target[at + 19] = COLON;
  twoDigits(target, at + 20, minute);
  target[at + 22] = COLON;
  twoDigits(target, at + 23, time % 60);
  target[at + 25] = SPACE;
  target[at + 26] = UPPER_G;
  target[at + 27] = UPPER_M;
  target[at + 28] = UPPER_T;
}

const COLON = 0x3a;
const SPACE = 0x20;
const UPPER_G = 0x47;
const UPPER_M = 0x4d;
const UPPER_T = 0x54;

function twoDigits(target: Uint8Array, at: number, value: number): void {
  target[at] = 0x30 + ((value / 10) | 0);
  target[at + 1] = 0x30 + (value % 10);
}
