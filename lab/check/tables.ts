import { isV6, type Running } from './docker.ts';
import type { Comparison, Concat, Mapped, Router } from './world.ts';

const addressesOf = (list: readonly Running[], v6: boolean): string[] => [
  ...new Set(list.flatMap((r) => r.addresses.filter((a) => isV6(a) === v6))),
];

/** Anti-spoofing knows the containers here and elsewhere, and nobody else. */
export const sources: Comparison<Router> = ({ where, local, remote, map }, say) => {
  for (const [name, of] of [
    ['sources', local],
    ['remotes', remote],
  ] as const)
    for (const six of ['', '6']) {
      const have = new Set(map(name + six).map(([key]) => (key as Concat).concat.at(-1) as string));
      for (const a of addressesOf(of, six === '6'))
        if (!have.delete(a)) say(`${where}: map ${name}${six} lacks ${a}`);
      for (const a of have) say(`${where}: map ${name}${six} has ${a}, which nobody has`);
    }
};

/** Addresses of groups' containers and external endpoints are members of them; those and only those whose groups have rules are under a policy. */
export const groups: Comparison<Router> = ({ where, cluster, tenant, local, map }, say) => {
  const running = [...cluster.running, ...cluster.externals].filter((r) => r.tenant === tenant);
  for (const six of ['', '6']) {
    members(where, running, six === '6', map(`members${six}`), say);
    for (const direction of ['in', 'out']) {
      const name = `judged_${direction}${six}`;
      const under = local.filter((r) => cluster.judged.has(`${r.tenant}:${r.group} ${direction}`));
      const have = new Set(map(name).map(([address]) => address as string));
      for (const a of addressesOf(under, six === '6'))
        if (!have.delete(a)) say(`${where}: ${name} lacks ${a}`);
      // NetworkPolicies select them by labels.
      for (const a of addressesOf(
        local.filter((r) => r.workload !== undefined),
        six === '6',
      ))
        have.delete(a);
      for (const a of have) say(`${where}: ${name} has ${a}, whose group has no such rules`);
    }
  }
};

/**
 * Each address of a group's container has its group's number, which no other group has. A workload's has one that stands for its labels:
 * which of them have the same is for the tests of policy.
 */
function members(
  where: string,
  running: readonly Running[],
  v6: boolean,
  mapped: Mapped,
  say: (line: string) => void,
): void {
  const have = new Map(mapped.map(([address, number]) => [address as string, number as number]));
  const numbers = new Map<number, string>();
  for (const { workload, container, addresses } of running)
    for (const address of workload === undefined ? [] : addresses.filter((a) => isV6(a) === v6))
      if (!have.delete(address)) say(`${where}: ${address} of ${container} is no member`);
  for (const r of running.filter((r) => r.group !== '' && r.workload === undefined))
    for (const address of r.addresses.filter((a) => isV6(a) === v6)) {
      const number = have.get(address);
      have.delete(address);
      if (number === undefined) say(`${where}: ${address} of ${r.container} is no member of ${r.group}`);
      else if ((numbers.get(number) ?? r.group) !== r.group)
        say(`${where}: ${address} of ${r.container} counts as ${numbers.get(number)}, is in ${r.group}`);
      else numbers.set(number, r.group);
    }
  for (const address of have.keys()) say(`${where}: member ${address}, which no container of a group has`);
}
