/**
 * Entry of the benchmarks in process, built into one file as the program is: from source, each imported constant is a call of a getter, which
 * makes hot loops two to three times as slow as they are in the product.
 */
import "./native.ts";
