/** Damage, the long form: each file of the golden store cut at every length. STRIDE takes every so many-th only. */
process.env.STRIDE ??= "1";
process.env.DAMAGE = "cuts";
require("../engine/damage.test.ts");
