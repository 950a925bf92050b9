/**
 * Classes of an ACI fabric's objects, as far as tests meet them: what each lies in, what names it, what may be said of it, and what
 * comes with it. From Cisco's APIC Management Information Model Reference, of which the names are.
 */

export interface ClassModel {
  /** Classes that it may lie in. */
  readonly in: readonly string[];
  /** The last part of its DN; `{}` stands for what names it. */
  readonly rn: string;
  /** Attribute that names it. */
  readonly naming?: string;
  /** Attributes that may be set, and what they are where nobody says. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Of an attribute all that it may be. */
  readonly values?: Readonly<Record<string, readonly string[]>>;
  /** Made with it. */
  readonly implicit?: readonly string[];
  /** A relation by name: the attribute, what it leads to, and the form of its RN. */
  readonly leads?: { readonly attribute: string; readonly to: string; readonly rn: string };
}

const YES_NO = ['yes', 'no'];
const NAMED = { name: '', descr: '', nameAlias: '' };
const relation = (parent: string, rn: string, attribute: string, to: string, target: string): ClassModel => ({
  in: [parent],
  rn,
  ...(rn.includes('{}') && { naming: attribute }),
  attributes: { [attribute]: '' },
  leads: { attribute, to, rn: target },
});
const byDn = (rn: string, attributes: Record<string, string>): ClassModel => ({
  in: ['fvAEPg'],
  rn,
  naming: 'tDn',
  attributes: { tDn: '', ...attributes },
  values: { instrImedcy: ['lazy', 'immediate'], mode: ['regular', 'native', 'untagged'] },
});

export const CLASSES: Readonly<Record<string, ClassModel>> = {
  fvTenant: {
    in: ['polUni'],
    rn: 'tn-{}',
    naming: 'name',
    attributes: NAMED,
    implicit: ['fvRsTenantMonPol'],
  },
  fvRsTenantMonPol: {
    in: ['fvTenant'],
    rn: 'rsTenantMonPol',
    attributes: { tnMonEPGPolName: '' },
  },
  fvCtx: {
    in: ['fvTenant'],
    rn: 'ctx-{}',
    naming: 'name',
    attributes: { ...NAMED, pcEnfPref: 'enforced', pcEnfDir: 'ingress', knwMcastAct: 'permit' },
    values: { pcEnfPref: ['enforced', 'unenforced'], pcEnfDir: ['ingress', 'egress'] },
    implicit: ['vzAny'],
  },
  vzAny: { in: ['fvCtx'], rn: 'any', attributes: { ...NAMED, matchT: 'AtleastOne', prefGrMemb: 'disabled' } },
  vzRsAnyToProv: relation('vzAny', 'rsanyToProv-{}', 'tnVzBrCPName', 'vzBrCP', 'brc-{}'),
  vzRsAnyToCons: relation('vzAny', 'rsanyToCons-{}', 'tnVzBrCPName', 'vzBrCP', 'brc-{}'),
  fvBD: {
    in: ['fvTenant'],
    rn: 'BD-{}',
    naming: 'name',
    attributes: {
      ...NAMED,
      arpFlood: 'no',
      unicastRoute: 'yes',
      unkMacUcastAct: 'proxy',
      unkMcastAct: 'flood',
      multiDstPktAct: 'bd-flood',
      mac: '00:22:BD:F8:19:FF',
    },
    values: { arpFlood: YES_NO, unicastRoute: YES_NO, unkMacUcastAct: ['proxy', 'flood'] },
    implicit: ['fvRsCtx'],
  },
  fvRsCtx: relation('fvBD', 'rsctx', 'tnFvCtxName', 'fvCtx', 'ctx-{}'),
  fvSubnet: {
    in: ['fvBD', 'fvAEPg'],
    rn: 'subnet-[{}]',
    naming: 'ip',
    attributes: { ...NAMED, ip: '', scope: 'private', preferred: 'no', virtual: 'no' },
    values: { scope: ['private', 'public', 'shared', 'public,shared'] },
  },
  fvAp: {
    in: ['fvTenant'],
    rn: 'ap-{}',
    naming: 'name',
    attributes: { ...NAMED, prio: 'unspecified' },
    implicit: ['fvRsApMonPol'],
  },
  fvRsApMonPol: { in: ['fvAp'], rn: 'rsApMonPol', attributes: { tnMonEPGPolName: '' } },
  fvAEPg: {
    in: ['fvAp'],
    rn: 'epg-{}',
    naming: 'name',
    attributes: {
      ...NAMED,
      matchT: 'AtleastOne',
      pcEnfPref: 'unenforced',
      prefGrMemb: 'exclude',
      prio: 'unspecified',
      isAttrBasedEPg: 'no',
    },
    implicit: ['fvRsBd'],
  },
  fvRsBd: relation('fvAEPg', 'rsbd', 'tnFvBDName', 'fvBD', 'BD-{}'),
  fvRsProv: relation('fvAEPg', 'rsprov-{}', 'tnVzBrCPName', 'vzBrCP', 'brc-{}'),
  fvRsCons: relation('fvAEPg', 'rscons-{}', 'tnVzBrCPName', 'vzBrCP', 'brc-{}'),
  fvRsConsIf: relation('fvAEPg', 'rsconsIf-{}', 'tnVzCPIfName', 'vzCPIf', 'cif-{}'),
  fvRsProtBy: relation('fvAEPg', 'rsprotBy-{}', 'tnVzTabooName', 'vzTaboo', 'taboo-{}'),
  fvRsDomAtt: byDn('rsdomAtt-[{}]', { instrImedcy: 'lazy', resImedcy: 'immediate', encap: 'unknown' }),
  fvRsPathAtt: byDn('rspathAtt-[{}]', { encap: 'unknown', instrImedcy: 'lazy', mode: 'regular' }),
  fvRsNodeAtt: byDn('rsnodeAtt-[{}]', { encap: 'unknown', instrImedcy: 'lazy', mode: 'regular' }),
  vzBrCP: {
    in: ['fvTenant'],
    rn: 'brc-{}',
    naming: 'name',
    attributes: { ...NAMED, scope: 'context', prio: 'unspecified' },
    values: { scope: ['application-profile', 'context', 'tenant', 'global'] },
  },
  vzSubj: {
    in: ['vzBrCP'],
    rn: 'subj-{}',
    naming: 'name',
    attributes: {
      ...NAMED,
      revFltPorts: 'yes',
      prio: 'unspecified',
      consMatchT: 'AtleastOne',
      provMatchT: 'AtleastOne',
    },
    values: { revFltPorts: YES_NO },
  },
  vzRsSubjFiltAtt: relation('vzSubj', 'rssubjFiltAtt-{}', 'tnVzFilterName', 'vzFilter', 'flt-{}'),
  vzCPIf: { in: ['fvTenant'], rn: 'cif-{}', naming: 'name', attributes: NAMED },
  vzRsIf: { in: ['vzCPIf'], rn: 'rsif', attributes: { tDn: '', prio: 'unspecified' } },
  vzTaboo: { in: ['fvTenant'], rn: 'taboo-{}', naming: 'name', attributes: NAMED },
  vzTSubj: { in: ['vzTaboo'], rn: 'tsubj-{}', naming: 'name', attributes: NAMED },
  vzRsDenyRule: relation('vzTSubj', 'rsdenyRule-{}', 'tnVzFilterName', 'vzFilter', 'flt-{}'),
  vzFilter: { in: ['fvTenant'], rn: 'flt-{}', naming: 'name', attributes: NAMED },
  vzEntry: {
    in: ['vzFilter'],
    rn: 'e-{}',
    naming: 'name',
    attributes: {
      ...NAMED,
      etherT: 'unspecified',
      prot: 'unspecified',
      arpOpc: 'unspecified',
      applyToFrag: 'no',
      stateful: 'no',
      tcpRules: '',
      icmpv4T: 'unspecified',
      icmpv6T: 'unspecified',
      sFromPort: 'unspecified',
      sToPort: 'unspecified',
      dFromPort: 'unspecified',
      dToPort: 'unspecified',
    },
    values: {
      etherT: ['unspecified', 'ipv4', 'trill', 'arp', 'ipv6', 'mpls_ucast', 'mac_security', 'fcoe', 'ip'],
    },
  },
  physDomP: { in: ['polUni'], rn: 'phys-{}', naming: 'name', attributes: NAMED },
  l3extOut: { in: ['fvTenant'], rn: 'out-{}', naming: 'name', attributes: NAMED },
};

const PORTS: Readonly<Record<string, string>> = {
  20: 'ftpData',
  25: 'smtp',
  53: 'dns',
  80: 'http',
  110: 'pop3',
  443: 'https',
  554: 'rtsp',
};
const PROTOCOLS: Readonly<Record<string, string>> = {
  0: 'unspecified',
  1: 'icmp',
  2: 'igmp',
  6: 'tcp',
  17: 'udp',
  58: 'icmpv6',
};

/** As it is shown, whatever form it was given in; undefined: it cannot be that. */
export function shownValue(className: string, attribute: string, value: string): string | undefined {
  const values = CLASSES[className]?.values?.[attribute];
  if (values !== undefined && !values.includes(value)) return undefined;
  if (attribute === 'name' && !/^[a-zA-Z0-9_.:-]{1,64}$/.test(value)) return undefined;
  if (attribute === 'encap' && value !== 'unknown') {
    const [, id] = /^vlan-(\d+)$/.exec(value) ?? [];
    return id !== undefined && Number(id) >= 1 && Number(id) <= 4094 ? value : undefined;
  }
  if (className !== 'vzEntry') return value;
  if (attribute.endsWith('Port')) {
    if (value === 'unspecified' || Object.values(PORTS).includes(value)) return value;
    return /^\d+$/.test(value) && Number(value) <= 65535 ? (PORTS[value] ?? value) : undefined;
  }
  if (attribute === 'prot') {
    if (Object.values(PROTOCOLS).includes(value)) return value;
    return /^\d+$/.test(value) && Number(value) <= 255 ? (PROTOCOLS[value] ?? value) : undefined;
  }
  return value;
}
