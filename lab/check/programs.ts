/** eBPF programs at devices, and what their maps hold, by means of tc and bpftool. */

/** What a command prints where the devices are. */
type At = (...command: string[]) => Promise<string>;

export interface Program {
  readonly name: string;
  readonly id: number;
}

/** At what arrives by the device, in the order in which packets meet them. */
export async function programsAt(at: At, device: string): Promise<Program[]> {
  const filters = JSON.parse(await at('tc', '-j', 'filter', 'show', 'dev', device, 'ingress')) as {
    options?: { bpf_name?: string; prog?: { id: number } };
  }[];
  return filters.flatMap(({ options }) =>
    options?.prog === undefined ? [] : [{ name: options.bpf_name ?? '', id: options.prog.id }],
  );
}

/** Keys and values of the map of that name that a program has. */
export async function mapOf(at: At, program: number, name: string): Promise<[key: Buffer, value: Buffer][]> {
  const json = async (...words: string[]) => JSON.parse(await at('bpftool', '-j', ...words));
  const { map_ids: ids } = (await json('prog', 'show', 'id', `${program}`)) as { map_ids: number[] };
  for (const id of ids) {
    const map = (await json('map', 'show', 'id', `${id}`)) as { name: string };
    if (map.name !== name) continue;
    const entries = (await json('map', 'dump', 'id', `${id}`)) as { key: string[]; value: string[] }[];
    const bytes = (text: readonly string[]): Buffer => Buffer.from(text.map(Number));
    return entries.map(({ key, value }) => [bytes(key), bytes(value)]);
  }
  return [];
}
