/** The settings of the whole cluster, as data: what networks are checked against. What may become of them says global.ts. */
import { type Static, Type } from '@sinclair/typebox';

export const GlobalSchema = Type.Object(
  {
    name: Type.Literal('global', { description: 'always global' }),
    networkInfraType: Type.Optional(
      Type.Union([Type.Literal('default'), Type.Literal('aci'), Type.Literal('aci-opflex')], {
        description: 'fabric between the hosts; aci: netmaster tells it of application profiles (aciGw)',
      }),
    ),
    vlans: Type.Optional(Type.String({ description: 'VLAN ids to give out, first-last', maxLength: 32 })),
    vxlans: Type.Optional(Type.String({ description: 'VXLAN VNIs to give out, first-last', maxLength: 32 })),
    fwdMode: Type.Optional(
      Type.Union([Type.Literal('bridge'), Type.Literal('routing')], {
        description: 'forwarding mode; bridge: networks of one tenant do not reach each other',
      }),
    ),
    arpMode: Type.Optional(
      Type.Union([Type.Literal('proxy'), Type.Literal('flood')], { description: 'how ARP is answered' }),
    ),
    encryption: Type.Optional(
      Type.Union([Type.Literal('none'), Type.Literal('wireguard')], {
        description:
          'of what goes between hosts by VXLAN, default none; networks of encap vlan stay as they are',
      }),
    ),
    pvtSubnet: Type.Optional(
      Type.String({ description: 'private subnet of the hosts, a /16', maxLength: 32 }),
    ),
  },
  { $id: 'global', additionalProperties: false },
);
export type Global = Static<typeof GlobalSchema>;

export const GLOBAL_DEFAULTS: Global = {
  name: 'global',
  networkInfraType: 'default',
  vlans: '1-4094',
  vxlans: '1-10000',
  fwdMode: 'routing',
  arpMode: 'proxy',
  pvtSubnet: '172.19.0.0/16',
};

/** `first-last` as numbers; undefined where it is none or runs backwards. */
export function parseRange(text: string): [number, number] | undefined {
  const match = /^(\d{1,8})-(\d{1,8})$/.exec(text);
  if (match === null) return undefined;
  const [low, high] = [Number(match[1]), Number(match[2])];
  return low >= 1 && low <= high ? [low, high] : undefined;
}
