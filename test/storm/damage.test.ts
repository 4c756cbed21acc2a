/** Damage, the long form: every byte of the golden store flipped, and each of its files cut at every length. STRIDE takes every so many-th only. */
process.env.STRIDE ??= "1";
require("../engine/damage.test.ts");
