/** What an agent that has ended leaves on a host, on purpose: routers, WireGuard's devices, and the host's table, which guards it. */
import { inNamespace, namespacePath } from '../../linux/netns.ts';
import { openNft } from '../../linux/nftables.ts';
import { NFT_TABLE } from '../constants.ts';
import { admitForwarding } from './admit.ts';
import { hasPorts, listRouters, removeClosedRouter } from './applier.ts';
import { removeEncryption } from './encryption.ts';

/** Throws where there are containers of ours: what they go by is guarded by the host's table. `names`: theirs, as far as known. */
export function refuseWhileUsed(names: readonly string[]): void {
  const used = listRouters().filter((name) => inNamespace(namespacePath(name), hasPorts));
  if (used.length > 0)
    throw new Error(
      `${used.join(', ')}: there are containers on these networks still${names.length > 0 ? ` (${names.join(', ')})` : ''}: remove them while netplugin runs, or restart the machine`,
    );
}

/** Takes it away, with the routers that only the host itself goes by (hostAccess). Throws where there are containers of ours. */
export async function removeFromHost(): Promise<void> {
  refuseWhileUsed([]);
  for (const name of listRouters()) removeClosedRouter(name);
  removeEncryption();
  const nft = openNft();
  nft.run(`add table inet ${NFT_TABLE}\ndelete table inet ${NFT_TABLE}`);
  nft.close();
  await admitForwarding(false);
}
