/** Clusters made up for properties: valid sets of objects of all kinds. */
import fc from 'fast-check';

export type Plain = Record<string, unknown>;

const some = <T>(values: readonly T[]): fc.Arbitrary<T[]> => fc.subarray([...values]);
const maybe = (fields: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<Plain> =>
  fc.record(fields, { requiredKeys: [] });

/** Objects of one tenant; `number` keeps its given tags apart from others'. */
function tenant(name: string, number: number): fc.Arbitrary<Plain[]> {
  const tenantName = name;
  const of = (kind: string, fields: Plain, ...more: Plain[]): Plain =>
    Object.assign({ kind, tenantName, ...fields }, ...more);
  return fc
    .record({
      networks: some([0, 1, 2, 3]),
      policies: some(['p1', 'p_2', 'p.3']),
      profiles: some(['gold', 'silver']),
      contracts: some(['c1', 'c2']),
    })
    .chain(({ networks, policies, profiles, contracts }) => {
      const network = (i: number): fc.Arbitrary<Plain> =>
        maybe({
          pktTag: fc.constant(10 + 10 * number + i),
          encap: fc.constantFrom('vlan', 'vxlan'),
          gateway: fc.constant(`20.1.${i}.254`),
          ipv6Subnet: fc.constant(`fd00:${i}::/64`),
          cfgdTag: fc.constantFrom('007', 'yes', 'null', '1.10', 'a: b', '# no comment', '- x', ' é "\'\\ '),
        }).map((fields) => of('network', { networkName: `net${i}`, subnet: `20.1.${i}.0/24` }, fields));
      const group = (name: string): fc.Arbitrary<Plain[]> =>
        networks.length === 0
          ? fc.constant([])
          : fc
              .tuple(
                fc.constantFrom(...networks),
                some(policies),
                some(contracts),
                maybe(profiles.length > 0 ? { netProfile: fc.constantFrom(...profiles) } : {}),
                fc.boolean(),
              )
              .map(([i, p, c, fields, pool]) => [
                of(
                  'endpointGroup',
                  { groupName: name, networkName: `net${i}`, policies: p, extContractsGrps: c },
                  fields,
                  pool
                    ? {
                        ipPool: `20.1.${i}.${name === 'web' ? '10' : '30'}-20.1.${i}.${name === 'web' ? '29' : '40'}`,
                      }
                    : {},
                ),
              ]);
      const rules = (groups: readonly string[]): fc.Arbitrary<Plain[]> =>
        policies.length === 0
          ? fc.constant([])
          : fc.uniqueArray(
              fc
                .tuple(
                  fc.constantFrom(...policies),
                  fc.integer({ min: 1, max: 12 }),
                  fc.constantFrom<Plain>(
                    ...groups.map((g) => ({ direction: 'in', fromEndpointGroup: g })),
                    ...networks.map((i) => ({ direction: 'out', toNetwork: `net${i}` })),
                    { direction: 'in', fromIpAddress: '20.1.1.0/28' },
                  ),
                  maybe({
                    priority: fc.integer({ min: 1, max: 100 }),
                    port: fc.integer({ min: 1, max: 65535 }),
                  }),
                  fc.constantFrom('allow', 'deny'),
                )
                .map(([policyName, id, peer, fields, action]) =>
                  of('rule', { policyName, ruleId: String(id), action }, peer, fields),
                ),
              { selector: (r) => `${r.policyName}:${r.ruleId}`, maxLength: 8 },
            );
      const service = (name: string): fc.Arbitrary<Plain[]> =>
        networks.length === 0
          ? fc.constant([])
          : fc
              .tuple(fc.constantFrom(...networks), fc.boolean())
              .map(([i, given]) => [
                of(
                  'serviceLB',
                  { serviceName: name, networkName: `net${i}`, selectors: ['app=x'], ports: ['80:8080:TCP'] },
                  given ? { ipAddress: `20.1.${i}.${name === 'lb' ? 2 : 77}` } : {},
                ),
              ]);
      return fc.tuple(some(['web', 'db']), some(['lb', 'lb2'])).chain(([groupNames, services]) => {
        const groups = networks.length === 0 ? [] : groupNames;
        return fc
          .tuple(
            fc.tuple(...networks.map(network)),
            fc.tuple(...groups.map(group)),
            rules(groups),
            fc.tuple(...services.map(service)),
            fc.record({
              bandwidth: fc.constantFrom('10 mbps', '1gbps'),
              DSCP: fc.integer({ min: 0, max: 63 }),
            }),
          )
          .map(([madeNetworks, madeGroups, madeRules, madeServices, profile]) => [
            of('tenant', {}),
            ...madeNetworks,
            ...policies.map((policyName) => of('policy', { policyName })),
            ...profiles.map((profileName) => of('netprofile', { profileName }, profile)),
            ...contracts.map((contractsGroupName) =>
              of('extContractsGroup', { contractsGroupName, contractsType: 'provided', contracts: ['x'] }),
            ),
            ...madeGroups.flat(),
            ...madeRules,
            of('appProfile', { appProfileName: 'shop', endpointGroups: groups }),
            ...madeServices.flat(),
          ]);
      });
    });
}

/** Any number of objects of all kinds, in any order. */
export const clusters: fc.Arbitrary<Plain[]> = fc
  .tuple(
    tenant('default', 0),
    fc.option(tenant('blue', 1), { nil: [] }),
    fc.option(tenant('Red-2', 2), { nil: [] }),
    fc.subarray<Plain>([
      { kind: 'global', vxlans: '10-500', vlans: '1-4000' },
      { kind: 'Bgp', hostname: 'h1', routerip: '50.1.1.2/24', as: '65000' },
      { kind: 'aciGw', enforcePolicies: 'yes' },
    ]),
  )
  .map((parts) => parts.flat())
  .chain((objects) => fc.shuffledSubarray(objects, { minLength: objects.length }));
