/**
 * Managed objects of an ACI fabric, as the controller's (APIC's) REST API has them: each has a class, such as `fvAEPg`, and a distinguished
 * name (DN), which is its path from the root: `uni/tn-blue/ap-shop/epg-web`. Names and forms are those of Cisco's APIC Management
 * Information Model Reference.
 */

export interface ManagedObject {
  readonly className: string;
  readonly dn: string;
  /** Only what is decided here; all are text, and APIC has more of its own. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** By DN; an object is behind what it lies in. */
export type Tree = ReadonlyMap<string, ManagedObject>;

/** The last part of a DN, by class, of what has a name; relations are named after what they lead to. */
const RELATIVE: Readonly<Record<string, (name: string) => string>> = {
  fvTenant: (name) => `tn-${name}`,
  fvCtx: (name) => `ctx-${name}`,
  fvBD: (name) => `BD-${name}`,
  fvRsCtx: () => 'rsctx',
  fvSubnet: (ip) => `subnet-[${ip}]`,
  fvAp: (name) => `ap-${name}`,
  fvAEPg: (name) => `epg-${name}`,
  fvRsBd: () => 'rsbd',
  fvRsDomAtt: (dn) => `rsdomAtt-[${dn}]`,
  fvRsPathAtt: (dn) => `rspathAtt-[${dn}]`,
  fvRsNodeAtt: (dn) => `rsnodeAtt-[${dn}]`,
  fvRsProv: (name) => `rsprov-${name}`,
  fvRsCons: (name) => `rscons-${name}`,
  fvRsConsIf: (name) => `rsconsIf-${name}`,
  fvRsProtBy: (name) => `rsprotBy-${name}`,
  vzAny: () => 'any',
  vzRsAnyToProv: (name) => `rsanyToProv-${name}`,
  vzRsAnyToCons: (name) => `rsanyToCons-${name}`,
  vzBrCP: (name) => `brc-${name}`,
  vzSubj: (name) => `subj-${name}`,
  vzRsSubjFiltAtt: (name) => `rssubjFiltAtt-${name}`,
  vzFilter: (name) => `flt-${name}`,
  vzEntry: (name) => `e-${name}`,
  vzTaboo: (name) => `taboo-${name}`,
  vzTSubj: (name) => `tsubj-${name}`,
  vzRsDenyRule: (name) => `rsdenyRule-${name}`,
};

/** All that is ever written. */
export const CLASSES: readonly string[] = Object.keys(RELATIVE);

export const ROOT = 'uni';

/** `name`: of what has one; of a relation the name or DN that it leads to. */
export const dnOf = (className: string, parent: string, name = ''): string =>
  `${parent}/${(RELATIVE[className] as (name: string) => string)(name)}`;

/** The DN that it lies in; '' of the root. A slash in brackets parts nothing. */
export function parentOf(dn: string): string {
  let depth = 0;
  for (let i = dn.length - 1; i >= 0; i--) {
    if (dn[i] === ']') depth++;
    else if (dn[i] === '[') depth--;
    else if (dn[i] === '/' && depth === 0) return dn.slice(0, i);
  }
  return '';
}

/** From the tenant down to what it lies in, itself left out. */
export function ancestorsOf(dn: string): string[] {
  const above = parentOf(dn);
  return above === ROOT || above === '' ? [] : [...ancestorsOf(above), above];
}

/**
 * What says whose an object is, in its `annotation`. Another cluster on the same fabric has another name, so that neither takes the other's for
 * its own; an object without it is somebody else's.
 */
export const markOf = (cluster: string): string => `orchestrator:contiv-${cluster}`;
