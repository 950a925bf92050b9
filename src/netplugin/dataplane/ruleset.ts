/** The nftables tables of router and host as values, as the rest of the data plane sees them: rules/ makes them. */
export { CONTAINER_KINDS } from './rules/contained.ts';
export { type HostFacts, hostTable } from './rules/host.ts';
export { DENY } from './rules/marks.ts';
export { routerEnd } from './rules/published.ts';
export { routerTable } from './rules/router.ts';
export { createCommands, type Elements, elementCommands, type Table } from './rules/table.ts';
