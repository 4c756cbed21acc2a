/** What a reader of the document has to know of all of it. */
export const DESCRIPTION = `A key-value store over plain HTTP. What is said here of one operation is not all that holds:

- **Keys** are everything after the first \`/\`, percent-decoded once. Where many keys are meant, \`{key}\` is their prefix, which may be empty (\`/?list\`).
- **Errors** are \`{"success":false,"error":"<a sentence>","code":"<a word>"}\`. Each status names the codes that it can have.
- **Access**: where a node has a key or tokens, requests carry one as \`Authorization: Bearer\`, or Basic with the token as password. The words behind \`bearer\` are what a token has to allow.
- **Pages of other origins**: with \`-cors\`, every path also answers \`OPTIONS\` (204, or 403 \`foreign_origin\`), and every answer to an allowed origin has \`Access-Control-Allow-Origin\` and \`Access-Control-Expose-Headers\`.
- **Every answer** has \`Date\`, \`Content-Length\` or chunks, and, where it depends on the token or the origin, \`Vary\`. One that refuses a body while it comes has \`Connection: close\`.
- **What is not HTTP** is answered by the parser with a short HTML text, and the connection closes: 400, 431, 505.
- **Lines** (\`application/x-ndjson\`): the schema is that of one line; blank lines mean nothing. Where such an answer has begun, what goes wrong is told by its last line.
- **Methods that OpenAPI 3.1 has no place for** (\`LOCK\`, \`UNLOCK\`) stand in \`x-additionalOperations\`.
- **Between nodes** there are routes below \`/_peer/\`, which are nobody else's business.
`;
