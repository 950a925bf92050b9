/**
 * Contracts that the fabric has of its own, as external contracts name them by their DN, and how a group of a tenant has them.
 *
 *   uni/tn-TENANT/brc-NAME, uni/tn-common/brc-NAME     a contract: provided by fvRsProv, consumed by fvRsCons
 *   uni/tn-TENANT/cif-NAME, uni/tn-common/cif-NAME     a contract interface (vzCPIf), as which another tenant's contract was exported to
 *                                                      this one: consumed by fvRsConsIf
 *
 * A relation leads by name to what is in the tenant, else to what is in common. So a contract of a third tenant is had by an interface alone,
 * which provides nothing; and one of common is not had where the tenant has one of that name (`hidingOf`).
 */
import type { ExtContractsGroup } from '../../model/extContractsGroup.ts';

const FORM = /^uni\/tn-([^/[\]]+)\/(brc|cif)-([^/[\]]+)$/;

/** How a group has one. */
export interface Relation {
  readonly className: string;
  /** What it leads to by its attribute. */
  readonly attribute: string;
  readonly name: string;
}

/** What it cannot be, and what would be right. */
export interface Unsuitable {
  readonly problem: string;
  readonly remedy: string;
}

export function relationTo(
  text: string,
  type: ExtContractsGroup['contractsType'],
  tenant: string,
): Relation | Unsuitable {
  const [, owner, kind, name] = FORM.exec(text) ?? [];
  if (owner === undefined || name === undefined)
    return {
      problem: `'${text}' is no DN of a contract`,
      remedy: `name it as uni/tn-${tenant}/brc-NAME or uni/tn-common/brc-NAME; one that another tenant has exported as uni/tn-${tenant}/cif-NAME`,
    };
  if (owner !== tenant && owner !== 'common')
    return {
      problem: `'${text}' is no contract that a group of tenant ${tenant} can have in the ACI fabric: it is tenant ${owner}'s`,
      remedy: `export it to tenant ${tenant} in the fabric, and consume what it is there, uni/tn-${tenant}/cif-NAME`,
    };
  if (kind === 'brc') {
    const className = type === 'provided' ? 'fvRsProv' : 'fvRsCons';
    return { className, attribute: 'tnVzBrCPName', name };
  }
  if (type === 'provided')
    return {
      problem: `'${text}' is an exported contract, which its own tenant's groups provide and others only consume`,
      remedy: 'consume it (--consumed), or provide a contract of the tenant or of common (brc-NAME)',
    };
  return { className: 'fvRsConsIf', attribute: 'tnVzCPIfName', name };
}

/** The DN of what a tenant has in place of one of common, where it is there; undefined: nothing can be. */
export function hidingOf(dn: string, tenant: string): string | undefined {
  const [, owner, kind, name] = FORM.exec(dn) ?? [];
  return owner === 'common' ? `uni/tn-${tenant}/${kind}-${name}` : undefined;
}
