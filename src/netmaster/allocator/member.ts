/**
 * Addresses of external endpoints. One in a subnet of its group's network is taken there, so that nobody else is given it; one
 * outside is nobody's to give, and only its meaning is kept: that of its group, for as long as a host may go by it (endings.ts).
 */
import type { EndpointGroup } from '../../model/endpointGroup.ts';
import { networkWith, type StoredExternalEndpoint } from '../../model/externalEndpoint.ts';
import type { Check, Write } from '../../store/store.ts';
import { addressKey, begin, end, openEndings } from '../endings.ts';
import { storeKey } from '../mirror.ts';
import { chooseAddress } from './choose.ts';
import { type Allocator, inOrder } from './order.ts';

const meaningOf = ({ tenantName, groupName }: StoredExternalEndpoint) => ({
  of: `group ${tenantName}:${groupName}`,
  host: '',
});

export const member: Allocator<StoredExternalEndpoint> = {
  give(view, key, external, before) {
    const { tenantName, groupName, ipAddress, healthCheck } = external;
    if (before !== undefined) {
      // Its addresses are as they were; what another check finds is another matter.
      const { failing } = before;
      const fields = failing !== undefined && before.healthCheck === healthCheck ? { failing } : {};
      return { fields, checks: [], writes: [] };
    }
    const group = view.get<EndpointGroup>('endpointGroup', `${tenantName}:${groupName}`);
    // A network that comes at the same time, or another one with this address, is seen.
    const order = inOrder(view, tenantName, key);
    const checks: Check[] = [...order.checks];
    const writes: Write[] = [...order.writes];
    const what = `external endpoint ${key}`;
    const field = 'ipAddress';
    for (const address of ipAddress) {
      const network = networkWith(view, tenantName, address);
      if (network !== undefined) {
        const family = address.includes(':') ? 6 : 4;
        const chosen = chooseAddress(
          view,
          { network, family, group, address, what, field },
          { external: key },
        );
        checks.push(...chosen.checks);
        writes.push(...chosen.writes);
        continue;
      }
      const ended = addressKey(tenantName, address);
      openEndings(view).refuse(ended, meaningOf(external), `${what}: address ${address}`, field);
      const begun = begin(view, ended);
      checks.push(...begun.checks);
      writes.push(...begun.writes);
    }
    return { fields: {}, checks, writes };
  },
  take: (view, _key, external) =>
    external.ipAddress.flatMap((address) => {
      const { tenantName } = external;
      const network = networkWith(view, tenantName, address)?.networkName;
      return [
        ...(network === undefined
          ? []
          : [{ key: storeKey('address', `${tenantName}:${network}/${address}`), value: undefined }]),
        ...end(view, addressKey(tenantName, address), meaningOf(external)),
      ];
    }),
};
