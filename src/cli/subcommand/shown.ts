/** What may come from anybody, for a terminal: characters that it would take for commands are written out. */
export function shown(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
