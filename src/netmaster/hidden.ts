/**
 * Warnings about networks that hide the world's names: names in a network end in its name. Where that is a top-level domain too, its
 * tenant's containers do not resolve some names of the world (docs/guide/names.md). A tenant's name hides next to nothing: names
 * with it are the tenant's own only where the label before it is one of its networks.
 *
 * The list of top-level domains is IANA's, as the package tlds has it: the public suffixes of one label, which is all that a
 * network's name can be. It is read when a network is first created, and not by a netmaster at rest.
 */
import { domainToUnicode } from 'node:url';

let known: Promise<ReadonlySet<string>> | undefined;

function topLevelDomains(): Promise<ReadonlySet<string>> {
  known ??= import('tlds', { with: { type: 'json' } }).then(({ default: list }) => new Set(list));
  return known;
}

/** One line for each network among what was created whose name hides a part of the world's. */
export async function hidingNames(
  created: readonly { readonly kind: string; readonly key: string }[],
): Promise<string[]> {
  const networks = created.filter(({ kind }) => kind === 'network');
  if (networks.length === 0) return [];
  const domains = await topLevelDomains();
  return networks.flatMap(({ key }) => {
    const [tenant, network = ''] = key.split(':');
    const name = network.toLowerCase();
    if (!domains.has(domainToUnicode(name))) return [];
    return [
      `network ${key}: .${name} is a top-level domain: in tenant ${tenant} names like example.${name} are its own and resolve nothing outside`,
    ];
  });
}
