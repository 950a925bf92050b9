/** The lines of a stream, without their ends; one that the stream breaks off in is none. Pieces are kept as they come, however long a line. */
export async function* lines(stream: NodeJS.ReadableStream): AsyncGenerator<string> {
  let rest: string[] = [];
  stream.setEncoding('utf8');
  for await (const chunk of stream)
    for (const piece of (chunk as string).split(/(?<=\n)/)) {
      rest.push(piece);
      if (!piece.endsWith('\n')) continue;
      const line = rest.join('').slice(0, -1);
      rest = [];
      if (line !== '') yield line;
    }
}
