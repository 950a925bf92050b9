/** Published ports as people read them. */
import { MOST_PUBLISHED } from '../../model/endpoint.ts';
import type { Publication } from '../state.ts';

/** `8000-8099`; one port alone. */
const span = (first: number, count = 1): string =>
  count === 1 ? `${first}` : `${first}-${first + count - 1}`;

/** As `docker ps` has them, each once, whatever families it is of. */
export function publishedText(publications: readonly Publication[]): string[] {
  const lines = publications.map(({ protocol, hostAddress, hostPort, port, count }) => {
    const at = hostAddress.includes(':') ? `[${hostAddress}]:` : hostAddress === '' ? '' : `${hostAddress}:`;
    return `${at}${span(hostPort, count)}->${span(port, count)}/${protocol}`;
  });
  return [...new Set(lines)].slice(0, MOST_PUBLISHED);
}
