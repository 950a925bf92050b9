/** What a Docker network stands for: travels as driver and IPAM options, so both drivers can tell. */
export interface Target {
  readonly tenant: string;
  readonly network: string;
  /** '' for none. */
  readonly group: string;
}

/** What a user calls it. */
export function dockerName({ tenant, network, group }: Target): string {
  const name = group === '' ? network : `${group}.${network}`;
  return tenant === 'default' ? name : `${name}/${tenant}`;
}
