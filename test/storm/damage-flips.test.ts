/** Damage, the long form: every byte of the golden store flipped. STRIDE takes every so many-th only. */
process.env.STRIDE ??= "1";
process.env.DAMAGE = "flips";
require("../engine/damage.test.ts");
