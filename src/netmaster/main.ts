/** Entry of bin/netmaster. */
import net from 'node:net';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import type { Credentials } from '../client/credentials.ts';
import { parseDuration } from '../model/duration.ts';
import { each, FORMER_OF_BOTH, translateFlags } from '../model/formerFlags.ts';
import { GLOBAL_DEFAULTS } from '../model/settings.ts';
import { DEFAULT_TENANT } from '../model/tenant.ts';
import { oneLine } from '../model/text.ts';
import { VERSION } from '../model/version.ts';
import { checkStoreSpec, openStore } from '../store/open.ts';
import { inTurn } from '../turns.ts';
import { FOLDER as ACI_FOLDER } from './aci/access.ts';
import { followFabric } from './aci/follower.ts';
import { trackAcknowledgements } from './acknowledgements.ts';
import type { LoginOptions } from './api/login.ts';
import { createServer } from './api/server.ts';
import { keepCertificate } from './certificate.ts';
import { COPIES_USAGE, type CopyOptions, copy, isCopy, readCopy } from './copies.ts';
import { openDuty } from './duty.ts';
import { decideForgetting } from './endings.ts';
import { decideCollection, type Seen } from './endpoints.ts';
import { INIT_USAGE, init, readInit } from './init.ts';
import { decideKeyEpochs } from './keyEpochs.ts';
import { ACCOUNT_FOLDER, type KubernetesOptions, openKubernetes, readKubernetes } from './kubernetes.ts';
import { decideTerm } from './lineage.ts';
import { openMirror, storeKey } from './mirror.ts';
import { OIDC_FLAGS, OIDC_USAGE, readProvider } from './oidcOptions.ts';
import { openReplicas } from './replicas.ts';
import { givingBack, openReserves } from './reserves.ts';
import { openRoster } from './roster.ts';
import { FOLDER, readFolder, readSecurity, type Security } from './security.ts';
import { decideTokensEnd } from './tokens.ts';
import { openWriter } from './writer.ts';

const USAGE = `netmaster: keeps the intent of a Contiv cluster and hands it to all hosts

Usage: netmaster [flags]
       netmaster init [flags]       makes the cluster's certificates (netmaster init --help)
       netmaster backup FILE        writes all that is in a store to a file (netmaster backup --help)
       netmaster restore FILE       fills a store with it (netmaster restore --help)
       netmaster move FROM TO       copies a store to another one, as from SQLite to etcd (netmaster move --help)

  --listen HOST:PORT       where to answer (default 127.0.0.1:9999)
                           beyond loopback only with certificates, or with --insecure
  --tls-dir FOLDER         what netmaster init has made (default /var/lib/contiv/tls, where there is something in it)
  --tls-cert, --tls-key, --tls-ca FILE
                           certificates of a PKI of your own instead: netmaster's, its key, and who signs those of clients
  --host-certificates LIFE how long hosts' certificates hold (default 90d); agents renew them after two thirds of that
  --sessions LIFE          how long people who log in are known (default 12h)
${OIDC_USAGE}  --kubernetes URL         the API server of a cluster, as https://10.0.0.1:6443: nodes' agents and netkube get their certificates by their
                           service accounts, netplugin and netkube, of the namespace in
  --kubernetes-dir FOLDER  token, ca.crt and namespace of the service account that netmaster asks there by
                           (default ${ACCOUNT_FOLDER})
  --insecure               no certificates: whoever reaches the port may do everything
  --name NAME              how clients call this machine too: a name, or an address that is translated to one of its own
                           (its addresses, host name, localhost and netmaster are known; more than once for several)
  --store STORE            memory, sqlite:FILE, or for several netmasters etcd://HOST:PORT,HOST:PORT,...[/NAME][?OPTIONS]
                           (default sqlite:/var/lib/contiv/netmaster.db). OPTIONS, joined by &: ca, cert and key for TLS,
                           user and passwordFile; NAME keeps clusters apart that use the same etcd (default contiv)
  --advertise URL          where the other netmasters on etcd reach this one (default: what --listen says)
  --address-grace SECONDS  after which a reserved address that no endpoint uses is free again (default 60)
  --aci-dir FOLDER         where the files are that netctl aci-gw names: password, key, CA (default /etc/contiv/aci)
  --log-level LEVEL        debug, info, warn, error (default info)
  --help, --version

Of the flags of Contiv 1.x --listen-url is --listen and --cluster-store is --store; of any other it is said what is there instead.

Example: netmaster --listen 10.0.0.1:9999 --store sqlite:/var/lib/contiv/netmaster.db
`;

const FORMER = {
  ...FORMER_OF_BOTH,
  ...each(['listen-url', 'external-address'], { as: 'listen' }),
  ...each(['control-url', 'internal-address'], {
    instead:
      'write --advertise http://HOST:PORT, where the other netmasters reach this one, if there are several',
  }),
  'cluster-store': { as: 'store' },
  ...each(['etcd', 'etcd-endpoints'], { instead: 'write --store etcd://HOST:PORT,HOST:PORT' }),
  ...each(['consul', 'consul-endpoints'], {
    instead: 'there is no store on Consul, write --store etcd://HOST:PORT or sqlite:FILE',
  }),
  ...each(['infra', 'infra-type'], {
    instead: 'leave it out, it is a setting of the cluster, netctl global set --fabric-mode',
  }),
  'plugin-name': { instead: 'leave it out, the driver is called netplugin' },
};

/** Of pino; the last one is for tests. */
const LEVELS = ['debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const COLLECTION_INTERVAL = 5000;
const LONGEST_SESSION = 30 * 86_400_000;

function wrongUsage(error: unknown, command = ''): never {
  process.stderr.write(`netmaster: ${oneLine((error as Error).message)} (see netmaster${command} --help)\n`);
  process.exit(1);
}

interface Options {
  security: Security | undefined;
  /** The same, of the files as they are by then. */
  readAgain: () => Security | undefined;
  /** Absent: what is there is of somebody else's PKI. */
  tlsFolder: string | undefined;
  login: LoginOptions;
  kubernetes: KubernetesOptions | undefined;
  host: string;
  port: number;
  names: string[];
  store: string;
  grace: number;
  aciFolder: string;
  /** Of this one among several netmasters. */
  url: string | undefined;
  level: string;
}

function readOptions(): Options | undefined {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: translateFlags(process.argv.slice(2), FORMER),
    options: {
      listen: text,
      name: { type: 'string', multiple: true },
      store: text,
      advertise: text,
      'tls-dir': text,
      'tls-cert': text,
      'tls-key': text,
      'tls-ca': text,
      'host-certificates': text,
      kubernetes: text,
      'kubernetes-dir': text,
      sessions: text,
      ...OIDC_FLAGS,
      insecure: { type: 'boolean' },
      'address-grace': text,
      'aci-dir': text,
      'log-level': text,
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean' },
    },
  });
  if (values.help) process.stdout.write(USAGE);
  else if (values.version) process.stdout.write(`${VERSION}\n`);
  if (values.help || values.version) return undefined;
  const listen = values.listen ?? '127.0.0.1:9999';
  const match = /^(?:\[([\da-f:.]+)\]|([\w.-]*)):(\d{1,5})$/i.exec(listen);
  if (match === null || Number(match[3]) > 65535)
    throw new Error(`--listen: '${listen}' must be HOST:PORT, e.g. 10.0.0.1:9999`);
  const names = values.name ?? [];
  for (const name of names)
    if (!/^[\w.:-]+$/.test(name))
      throw new Error(`--name: '${name}' must be a name or an address alone, e.g. netmaster.example.com`);
  const host = match[1] ?? match[2] ?? '';
  const grace = values['address-grace'] ?? '60';
  if (!/^[1-9]\d{0,6}$/.test(grace))
    throw new Error(`--address-grace: '${grace}' must be seconds, from 1 to 9999999`);
  const level = values['log-level'] ?? 'info';
  if (!LEVELS.includes(level)) throw new Error(`--log-level: '${level}' must be one of ${LEVELS.join(', ')}`);
  const store = values.store ?? 'sqlite:/var/lib/contiv/netmaster.db';
  checkStoreSpec(store);
  const readAgain = (): Security | undefined => securityOf(values);
  const security = readAgain();
  if (security === undefined && !isLoopback(host) && !values.insecure)
    throw new Error(
      `--listen ${listen}: without certificates whoever reaches it may do everything: make them (netmaster init), or say --insecure`,
    );
  const provider = readProvider(values);
  if (security === undefined && provider !== undefined)
    throw new Error(
      '--oidc-issuer: nobody logs in where netmaster has no certificates: make them (netmaster init)',
    );
  const kubernetes =
    values.kubernetes === undefined
      ? undefined
      : readKubernetes(values.kubernetes, values['kubernetes-dir'] ?? ACCOUNT_FOLDER);
  if (kubernetes !== undefined && security?.issuer === undefined)
    throw new Error(
      "--kubernetes: netmaster has no authority's key (ca.key), by which it would make certificates (netmaster init)",
    );
  const life = parseDuration(values.sessions ?? '12h');
  if (life === undefined || life > LONGEST_SESSION)
    throw new Error(`--sessions: '${values.sessions}' must be a time like 12h or 30m, 30d at most`);
  const isAnywhere = ['', '0.0.0.0', '::'].includes(host);
  const called = `${net.isIPv6(host) ? `[${host}]` : host}:${match[3]}`;
  const url = values.advertise ?? (isAnywhere ? '' : `http${security === undefined ? '' : 's'}://${called}`);
  const isShared = store.startsWith('etcd:');
  if (isShared && url === '')
    throw new Error(
      `--advertise is missing: with --listen ${listen} the other netmasters are to be told where this one is, e.g. http://10.0.0.1:9999`,
    );
  if (values.advertise !== undefined && !/^https?:\/\/[^/?#]+$/.test(url))
    throw new Error(`--advertise: '${url}' is not a URL like http://10.0.0.1:9999`);
  return {
    security,
    readAgain,
    tlsFolder: values['tls-cert'] === undefined ? (values['tls-dir'] ?? FOLDER) : undefined,
    login: { life, provider },
    kubernetes,
    host,
    port: Number(match[3]),
    names: host === '' ? names : [host, ...names],
    store,
    grace: Number(grace),
    aciFolder: values['aci-dir'] ?? ACI_FOLDER,
    url: isShared ? url : undefined,
    level,
  };
}

/** What netmaster shows to others. */
const credentialsOf = ({ authority, certificate, key }: Security): Credentials => ({
  authority,
  certificate,
  key,
});

/** Of nobody but this machine. */
const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || (net.isIPv4(host) && host.startsWith('127.'));

/**
 * What netmaster listens at. By the name localhost Fastify would make a server of its own for each address of it, and only the first has what
 * is set here: the certificate as it is renewed, and how connections end.
 */
const addressOf = (host: string): string =>
  host === '' ? '0.0.0.0' : host === 'localhost' ? '127.0.0.1' : host;

/** Throws an Error with one plain line where the flags do not go together, or a file is not what it should be. */
function securityOf(flags: Readonly<Record<string, unknown>>): Security | undefined {
  const given = (flag: string): string | undefined => flags[flag] as string | undefined;
  const life = given('host-certificates') ?? '90d';
  const hostLife = parseDuration(life);
  if (hostLife === undefined)
    throw new Error(`--host-certificates: '${life}' must be a time like 90d, 12h or 30m`);
  const [cert, key, ca] = ['tls-cert', 'tls-key', 'tls-ca'].map(given);
  const own = [cert, key, ca].filter((file) => file !== undefined);
  const folder = given('tls-dir');
  const [other] = folder === undefined ? (own.length === 0 ? [] : ['--tls-cert']) : ['--tls-dir'];
  if (flags.insecure) {
    if (other !== undefined) throw new Error(`--insecure: leave it out, or ${other}: they say the opposite`);
    return undefined;
  }
  if (own.length > 0 && folder !== undefined)
    throw new Error('--tls-dir: leave it out, --tls-cert, --tls-key and --tls-ca say where all is');
  if (cert !== undefined && key !== undefined && ca !== undefined)
    return readSecurity({ cert, key, ca }, hostLife);
  if (own.length > 0)
    throw new Error('--tls-cert, --tls-key and --tls-ca go together: one of them is missing');
  const found = readFolder(folder ?? FOLDER, hostLife);
  if (found === undefined && folder !== undefined)
    throw new Error(
      `--tls-dir ${folder}: no netmaster.crt is there: netmaster init --dir ${folder} makes it`,
    );
  return found;
}

const [, , command, ...words] = process.argv;
const options = (() => {
  try {
    return command === 'init' || isCopy(command) ? undefined : readOptions();
  } catch (error) {
    return wrongUsage(error);
  }
})();

/** Says what is wrong with --listen, and what would be right. */
function refuseListening(error: NodeJS.ErrnoException, { host, port }: Options): never {
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: `another process listens there (ss -ltnp sport = :${port} names it): end that, or choose another port`,
    EADDRNOTAVAIL: 'this machine has no such address: name one of its own (ip addr), or none for all of them',
    EACCES: `user ${process.geteuid?.()} may not listen on ports below 1024: choose a higher one`,
    ENOTFOUND: 'there is no such name: name an address of this machine',
  };
  const reason = reasons[error.code ?? ''];
  throw reason === undefined ? error : new Error(`--listen ${host}:${port}: ${reason}`);
}

async function run(options: Options): Promise<void> {
  const log = pino({ name: 'netmaster', level: options.level, base: {} }, pino.destination(2));
  try {
    const store = await openStore(options.store, (line) => log.warn(line));
    const mirror = await openMirror(store);
    const acknowledgements = trackAcknowledgements(mirror);
    const writer = givingBack(openWriter(store, mirror), mirror, acknowledgements);
    for (const [kind, key, value] of [
      ['tenant', DEFAULT_TENANT, { tenantName: DEFAULT_TENANT }],
      ['global', 'global', GLOBAL_DEFAULTS],
    ] as const)
      await writer.write(() => ({
        checks: [{ key: storeKey(kind, key), revision: 0 }],
        writes: mirror.stored(kind, key) === undefined ? [{ key: storeKey(kind, key), value }] : [],
        answer: undefined,
      }));
    const { names, url } = options;
    const certificate =
      options.security && keepCertificate(options.security, options.readAgain, options.tlsFolder, log);
    const security = certificate?.security;
    const exposed = security === undefined && !isLoopback(options.host);
    if (exposed)
      log.warn(
        `--insecure: whoever reaches port ${options.port} of this machine may do everything: make certificates (netmaster init)`,
      );
    const roster = openRoster(mirror, log, { alone: url === undefined });
    let shown = security === undefined ? {} : credentialsOf(security);
    security?.renewed?.((now) => {
      shown = credentialsOf(now);
    });
    const credentials = () => shown;
    const replicas = openReplicas({
      store,
      mirror,
      writer,
      acknowledgements,
      roster,
      log,
      url,
      credentials,
    });
    const kubernetes = options.kubernetes && openKubernetes(options.kubernetes, log);
    const server = await createServer({
      grace: options.grace * 1000,
      store,
      mirror,
      writer,
      acknowledgements,
      roster,
      replicas,
      alone: url === undefined,
      version: VERSION,
      log,
      names,
      security,
      login: options.login,
      kubernetes,
    });

    mirror.events.onEvents((events) => {
      for (const event of events) log.info({ event }, 'event');
    });
    mirror.onChange(({ changes }) => {
      if (changes.some(({ kind, object }) => kind === 'host' && object === null))
        roster
          .noteAway(writer)
          .catch((error) => log.error({ err: error }, 'not written which hosts are away; tried again'));
    });

    const seen: Seen = new Map();
    let problem: string | undefined;
    const reserves = openReserves(mirror, writer);
    async function collect(): Promise<void> {
      try {
        const { answer } = await writer.write(() =>
          decideCollection(mirror, seen, options.grace * 1000, performance.now()),
        );
        await writer.write(() => decideForgetting(mirror));
        await writer.write(() => decideTokensEnd(mirror));
        await roster.noteAway(writer);
        await writer.write(() => decideKeyEpochs(mirror, mirror.applied));
        await reserves.keep();
        if (answer > 0) log.info({ addresses: answer }, 'collected addresses that no endpoint used');
      } catch (error) {
        log.error({ err: error }, 'addresses not collected');
      }
      const found = await store.problem();
      if (found !== undefined && found !== problem) log.error(`the store cannot be written: ${found}`);
      if (found === undefined && problem !== undefined) log.info('the store can be written again');
      problem = found;
    }
    const collections = inTurn(collect, { again: () => COLLECTION_INTERVAL });
    collections.soon(COLLECTION_INTERVAL);

    // When the feed is there: who has seen all until now goes on from there.
    await writer.write(() => decideTerm(mirror));

    const duty = openDuty('aci', {
      store,
      mirror,
      writer,
      alone: url === undefined,
      taken: () => fabric.ask(),
      failed: (error) =>
        log.warn({ err: error }, 'not known which netmaster speaks to the fabric; trying on'),
    });
    const fabric = followFabric({ mirror, writer, duty, log, folder: options.aciFolder, env: process.env });

    await server
      .listen({ host: addressOf(options.host), port: options.port })
      .catch((error) => refuseListening(error, options));
    log.info({ store: options.store, revision: mirror.revision }, 'netmaster is ready');
    if (security !== undefined) kubernetes?.publish(security.authority);
    const close = async (): Promise<void> => {
      const collected = collections.close();
      reserves.close();
      kubernetes?.close();
      await certificate?.close();
      await fabric.close();
      await duty.close();
      await server.close();
      await replicas.close();
      await collected;
      await mirror.close();
      await store.close();
    };
    const end = (): void => {
      close().then(
        () => process.exit(0),
        (error) => {
          log.error({ err: error }, 'did not end cleanly');
          process.exit(1);
        },
      );
    };
    process.once('SIGTERM', end);
    process.once('SIGINT', end);
  } catch (error) {
    process.stderr.write(`netmaster: ${oneLine((error as Error).message)}\n`);
    process.exit(3);
  }
}

async function makeCertificates(args: readonly string[]): Promise<void> {
  const wanted = (() => {
    try {
      return readInit(args);
    } catch (error) {
      return wrongUsage(error);
    }
  })();
  if (wanted === 'help') {
    process.stdout.write(INIT_USAGE);
    return;
  }
  try {
    for (const line of await init(wanted)) process.stdout.write(`${line}\n`);
  } catch (error) {
    process.stderr.write(`netmaster: ${oneLine((error as Error).message)}\n`);
    process.exitCode = 3;
  }
}

async function makeCopy(name: CopyOptions['name'], args: readonly string[]): Promise<void> {
  const wanted = (() => {
    try {
      return readCopy(name, args);
    } catch (error) {
      return wrongUsage(error, ` ${name}`);
    }
  })();
  if (wanted === 'help') {
    process.stdout.write(COPIES_USAGE[name]);
    return;
  }
  try {
    const done = await copy(wanted, (line) => process.stderr.write(`netmaster: ${line}\n`));
    process.stdout.write(`${done}\n`);
  } catch (error) {
    process.stderr.write(`netmaster: ${oneLine((error as Error).message)}\n`);
    process.exitCode = 3;
  }
}

if (isCopy(command)) void makeCopy(command, words);
else if (command === 'init') void makeCertificates(words);
else if (options !== undefined) void run(options);
