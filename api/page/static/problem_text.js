// Reads problems that were typed or pasted.

/** Problems of a text: JSON Lines when its first line begins with a brace, else a prompt per line. */
export function readProblems(text) {
  const lines = text.split("\n").map((line, index) => [line.trim(), index + 1]).filter(([line]) => line);
  if (!lines.length || !lines[0][0].startsWith("{")) return lines.map(([line]) => ({ prompt: line }));
  return lines.map(([line, number]) => {
    try {
      return JSON.parse(line);
    } catch {
      throw new Error(`Line ${number} is not JSON. Write one object per line, such as {"prompt": "What is 2 + 3?"}.`);
    }
  });
}
