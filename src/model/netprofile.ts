/** A network profile: how fast the endpoints of groups with it may send, and how their packets are marked. */
import { type Static, Type } from '@sinclair/typebox';
import type { Kind } from './kind.ts';
import { checkWord, Name } from './names.ts';

export const NetprofileSchema = Type.Object(
  {
    tenantName: Name('tenant that the profile belongs to'),
    profileName: Name('name of the profile'),
    bandwidth: Type.Optional(
      Type.String({ description: 'bandwidth of each endpoint: 10 mbps, 1gbps, 500K', maxLength: 32 }),
    ),
    DSCP: Type.Optional(
      Type.Integer({ description: 'DSCP that packets are marked with', minimum: 0, maximum: 63 }),
    ),
    burst: Type.Optional(
      Type.Integer({ description: 'kilobytes that may go at once', minimum: 0, maximum: 1_000_000 }),
    ),
  },
  { $id: 'netprofile', additionalProperties: false },
);
export type Netprofile = Static<typeof NetprofileSchema>;

const FACTORS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9 };

/**
 * Bits per second of `10 mbps`, `1gbps`, `500K`, `64000bps`: a whole number, then k, m or g, then `bps`, `b` or
 * nothing, in any case; undefined where it is none.
 */
export function parseBandwidth(text: string): number | undefined {
  const match = /^([1-9]\d{0,15}) ?(?:([kmg])(?:b|bps)?|bps)$/i.exec(text);
  if (match === null) return undefined;
  const bits = Number(match[1]) * (FACTORS[(match[2] ?? '').toLowerCase()] as number);
  return Number.isSafeInteger(bits) ? bits : undefined;
}

export const netprofile: Kind<typeof NetprofileSchema> = {
  name: 'netprofile',
  collection: 'netprofiles',
  schema: NetprofileSchema,
  keyFields: ['tenantName', 'profileName'],
  updatable: true,
  forOrchestrators: true,
  references: [
    {
      field: 'tenantName',
      kind: 'tenant',
      keys: (p) => [p.tenantName],
      link: 'Tenant',
      backLink: 'NetProfiles',
    },
  ],
  forTenants: { sets: ['tenantName', 'profileName', 'bandwidth', 'DSCP', 'burst'] },
  check(p) {
    if (p.bandwidth && parseBandwidth(p.bandwidth) === undefined)
      return {
        field: 'bandwidth',
        status: 400,
        message: `netprofile ${p.tenantName}:${p.profileName}: bandwidth '${p.bandwidth}' must be a whole number from 1 and a unit like 500 kbps, 10 mbps or 1 gbps`,
      };
    return checkWord('netprofile', 'profileName', p.profileName);
  },
};
