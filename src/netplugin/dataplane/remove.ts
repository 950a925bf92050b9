/** What an agent that has ended leaves on a host, on purpose: the host's table, which guards it. */
import { openNft } from '../../linux/nftables.ts';
import { NFT_TABLE } from '../constants.ts';
import { admitForwarding } from './admit.ts';
import { listRouters } from './applier.ts';

/** Takes it away. Throws where there are containers of ours: what they go by is guarded by it. */
export async function removeHostTable(): Promise<void> {
  const routers = listRouters();
  if (routers.length > 0)
    throw new Error(
      `${routers.join(', ')}: there are containers on these networks still: remove them while netplugin runs, or restart the machine`,
    );
  const nft = openNft();
  nft.run(`add table inet ${NFT_TABLE}\ndelete table inet ${NFT_TABLE}`);
  nft.close();
  await admitForwarding(false);
}
