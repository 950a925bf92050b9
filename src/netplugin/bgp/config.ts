/**
 * What the routing daemon (BIRD 2) is told, once and for all containers: no call of ours is needed when one comes or goes.
 *
 *   kernel routes of ANNOUNCED_PROTOCOL --learned--> daemon --> neighbours
 *   neighbours --but for what is ours--> daemon --> kernel routes, of IPv4 with FABRIC_REALM
 *
 * Nothing that one neighbour says is told to another: a host is no way between routers.
 */
import { contains, isV6, parseSubnet, subnetPrefix } from '../../model/address.ts';
import { type Bgp, MAX_PREFIXES, neighborsOf, routerAddresses } from '../../model/bgp.ts';
import { ANNOUNCED_PROTOCOL, FABRIC_REALM } from '../constants.ts';

/** Seconds until a neighbour that is silent counts as gone: a cable that is cut on this side is noticed at once. */
const HOLD = 9;
/** Seconds for which neighbours keep the routes of a host whose daemon has died (RFC 4724). */
export const RESTART = 120;

export interface ConfigInput {
  readonly bgp: Bgp;
  /** Of the sessions (TCP MD5); absent: none. */
  readonly password?: string;
  /** Prefixes that are not taken from the fabric, nor what is in them: this host's own. */
  readonly own: readonly string[];
  /** File of its log. */
  readonly log: string;
  /** Prefixes that are announced though the kernel's have not been looked at yet. */
  readonly known?: readonly string[];
}

/**
 * Seconds for which one that follows a killed daemon leaves the routes of the kernel as they are, and announces what was announced. A neighbour
 * may say that it has told all (End-of-RIB) a second before it tells its routes: who believed it took the routes from the fabric out of the kernel
 * meanwhile. And the daemon says so itself when a session is there, but looks at the kernel's routes only a second after its start (krt.c), so
 * that neighbours deleted what it had not seen yet.
 */
export const SETTLING = 5;
const NOBODY = '192.0.0.8';

/** Never a way for anybody: `this network`, loopback, link-local, multicast and reserved. */
const NEVER = {
  4: ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'],
  6: ['::/16', 'fe80::/10', 'ff00::/8'],
} as const;

/** Names in the daemon, by which its answers are read. */
export const kernelProtocol = (family: 4 | 6): string => `kernel${family}`;
const knownProtocol = (family: 4 | 6): string => `known${family}`;
export const neighborProtocol = (number: number): string => `neighbor${number + 1}`;

function kernel(family: 4 | 6, own: readonly string[]): string {
  const mine = own.filter((prefix) => isV6(prefix) === (family === 6));
  // The default route is none of what is in these, though its prefix is: it is of length 0.
  const refused = [...NEVER[family], ...mine].map((prefix) => `${prefix}+`).join(', ');
  const realm = family === 4 ? `krt_realm = ${FABRIC_REALM}; ` : '';
  return `
filter ours${family} { if krt_source = ${ANNOUNCED_PROTOCOL} then accept; reject; }
filter taken${family} { if net ~ [ ${refused} ] then reject; accept; }
protocol kernel ${kernelProtocol(family)} {
  learn;
  graceful restart;
  scan time 20;
  ipv${family} {
    # What runs here is announced from here, whoever else still announces it.
    preference 200;
    import filter ours${family};
    export filter { if source = RTS_BGP then { ${realm}accept; } reject; };
  };
}`;
}

function neighbor(
  input: ConfigInput,
  { address, as }: { readonly address: string; readonly as: string },
  number: number,
): string {
  const { bgp, password } = input;
  const family = isV6(address) ? 6 : 4;
  const own = routerAddresses(bgp).find((a) => isV6(a) === (family === 6));
  return `
protocol bgp ${neighborProtocol(number)} {
  local ${own} as ${bgp.as};
  neighbor ${address} as ${as};
  ${isOnLink(bgp, address) ? 'direct' : 'multihop'};
  hold time ${HOLD};
  keepalive time ${HOLD / 3};
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 5;
  graceful restart;
  graceful restart time ${RESTART};
${password === undefined ? '' : `  password "${password}";\n`}  ipv${family} {
    import filter taken${family};
    import limit ${bgp.maxPrefixes ?? MAX_PREFIXES} action block;
    export where proto = "${kernelProtocol(family)}" || proto = "${knownProtocol(family)}";
    next hop self;
  };
}`;
}

/** Behind what the kernel has, in front of what neighbours tell. */
const known = (family: 4 | 6, prefixes: readonly string[]): string => `
protocol static ${knownProtocol(family)} {
  ipv${family} { preference 150; };
${prefixes.map((prefix) => `  route ${prefix} blackhole;\n`).join('')}}`;

/** In the subnet of the host's own address. */
const isOnLink = ({ routerip }: Bgp, address: string): boolean =>
  routerip.split(',').some((text) => {
    const subnet = parseSubnet(subnetPrefix(text.trim()));
    return subnet !== undefined && (subnet.family === 6) === isV6(address) && contains(subnet, address);
  });

export function configOf(input: ConfigInput): string {
  const { bgp, own, log } = input;
  const neighbors = neighborsOf(bgp);
  const families = ([4, 6] as const).filter(
    (family) => family === 4 || neighbors.some(({ address }) => isV6(address)),
  );
  const knownIn = (family: 4 | 6): string => {
    const prefixes = (input.known ?? []).filter((prefix) => isV6(prefix) === (family === 6));
    return prefixes.length === 0 ? '' : known(family, prefixes);
  };
  return `# Made by netplugin of what \`netctl bgp ls\` shows: changes here are lost.
log "${log}" 1000000 "${log}.1" all;
timeformat protocol iso long;
router id ${routerAddresses(bgp)[0]};
graceful restart wait ${SETTLING};
protocol device { scan time 10; }${families.map((family) => kernel(family, own)).join('')}
${families.map((family) => knownIn(family)).join('')}
${neighbors.map((n, i) => neighbor(input, n, i)).join('\n')}
# Nobody has the address (RFC 7600): while it is waited for, what was before is left as it is.
protocol bgp settling {
  local ${routerAddresses(bgp)[0]} as ${bgp.as};
  neighbor ${NOBODY} as ${bgp.as};
  multihop;
  passive;
  graceful restart;
  ipv4 { import none; export none; };
}
`;
}

/** Of a daemon without neighbours, which only takes back the routes that one before it had from them. */
export const emptyConfig = (log: string): string => `log "${log}" 1000000 "${log}.1" all;
router id ${NOBODY};
protocol device { }
protocol kernel kernel4 { ipv4 { import none; export none; }; }
protocol kernel kernel6 { ipv6 { import none; export none; }; }
`;
