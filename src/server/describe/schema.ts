/** JSON Schemas (2020-12) of what is sent and answered. */

/** A schema, in which shapes may stand for others. */
export type Schema = { readonly [member: string]: unknown } | Shape;

/** A schema that stands once in a document, under its name. */
export class Shape {
  readonly name: string;
  readonly schema: Schema;
  constructor(name: string, schema: Schema) {
    this.name = name;
    this.schema = schema;
  }
}
