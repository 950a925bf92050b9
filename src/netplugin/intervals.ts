/** When netplugin does by itself what nobody asks for: every interval, back-off and delay of its loops (turns.ts). Milliseconds. */

/** Until the kernel is read again; a foreign change is put right within 10 s. */
export const VERIFY_INTERVAL = 4000;
/** Between passes while a container starts. */
export const AWAITED_INTERVAL = 100;
/** After which netmaster is told once more what this host has applied: it may have forgotten. */
export const ACKNOWLEDGE_INTERVAL = 4000;
/** Between comparisons of this host's endpoints with netmaster's. */
export const ENDPOINTS_INTERVAL = 5000;
/** Between readings of what policy did: some microseconds for each tenant that has rules here, nothing for others. */
export const FLOWS_INTERVAL = 1000;
/** Between rounds of asking other hosts whether large packets arrive there. */
export const PATHS_INTERVAL = 4000;
/** Between looks whether the process that answers names does, and there whether each router is still the same. */
export const NAMES_INTERVAL = 4000;
/** Between health checks of one external endpoint, and for how long one may take. */
export const CHECK_INTERVAL = 2000;
/** Between looks at how the sessions with the fabric's routers are, and whether the daemon goes by what is declared: one question each. */
export const BGP_INTERVAL = 1000;
/** Between looks whether the daemon has taken back what is not to be announced any more, while somebody waits for that. */
export const WITHDRAWN_INTERVAL = 10;
/** Between looks at what the kernel has told of the underlay: one system call each. */
export const LISTEN_INTERVAL = 250;
/** The same of the host's routes, which may be many. */
export const PREFIXES_INTERVAL = 3000;
/** Between looks at where netmaster's names lead. */
export const RESOLVE_INTERVAL = 10_000;
/** Between looks at whether what a start of the agent needs is still on disk. */
export const FILES_INTERVAL = 3000;
/** After which Docker is asked for its networks again although nothing changed and no event told of anything. */
export const OFFER_INTERVAL = 10_000;
/** Between comparisons of what is attached with Docker's containers. */
export const CONTAINERS_INTERVAL = 20_000;
/** Between looks at Docker's Swarm where no event tells of a change: whether there is one, and where a manager here leads it, what it has. */
export const SWARM_INTERVAL = 10_000;

/** Between times when what was freed is given back to the kernel: much is, after a first list, and after each change of a large tenant. */
export const MEMORY_INTERVAL = 30_000;

/** Until what has failed or ended is tried again: the watch, Docker's events, the process that answers names, a write to disk. */
export const RETRY_DELAY = 500;
/** The longest of them, where a server says that it has too many. */
const LONGEST_DELAY = 16_000;
/** The same while a runtime or an operator waits for it: a call to netmaster, an acknowledgement. */
export const HASTY_DELAY = 250;
/** Between looks whether netmaster's objects are followed, for who waits for that. */
export const FOLLOWED_INTERVAL = 50;
/**
 * Between a change and its copy on disk. What a kill loses is fetched again by revision, but not while netmaster is away too:
 * so it is soon.
 */
export const SAVE_DELAY = 20;

/** Until the kernel is brought once more to what it has refused, so many times in a row: in the end with each verification. */
export const passDelay = (failures: number): number | undefined =>
  failures === 0 ? undefined : Math.min(RETRY_DELAY * 2 ** (failures - 1), VERIFY_INTERVAL);

/**
 * Until the watch is asked for again: soon where netmaster was away, and ever later where it has refused as many
 * times in a row; by chance, so that those who were refused together do not come back together.
 */
export const retryDelay = (refusals: number): number =>
  refusals === 0
    ? RETRY_DELAY
    : Math.min(RETRY_DELAY * 2 ** refusals, LONGEST_DELAY) * (0.5 + Math.random() / 2);

/** The longest between two looks whether the host's certificate is to be renewed; where it is short-lived they come sooner. */
export const RENEWAL_INTERVAL = 60_000;
