/**
 * Flags of 1.x's netmaster and netplugin: those that mean what one of ours does are taken as that one, and of the others it is said what
 * is there instead, since an installation of 1.x has them in its unit files.
 */

/** `as`: the flag of ours that it is. `instead`: what to do, as the end of a sentence. Neither names a flag without its dashes. */
export type FormerFlag = { readonly as: string } | { readonly instead: string };
export type FormerFlags = Readonly<Record<string, FormerFlag>>;

const NAME = /^--?([a-z][a-z0-9-]+)(=.*)?$/s;

/** The words with our flags in place of theirs. Throws an Error with one plain line for one that has none. */
export function translateFlags(words: readonly string[], former: FormerFlags): string[] {
  return words.map((word) => {
    const [, name = '', value = ''] = NAME.exec(word) ?? [];
    if (!Object.hasOwn(former, name)) return word;
    const found = former[name] as FormerFlag;
    if ('as' in found) return `--${found.as}${value}`;
    throw new Error(`--${name} is a flag of Contiv 1.x that there is no more: ${found.instead}`);
  });
}

/** What both programs had. */
export const FORMER_OF_BOTH: FormerFlags = {
  ...each(['mode', 'plugin-mode', 'cluster-mode'], {
    instead: 'leave it out, every host serves the runtimes that it has',
  }),
  ...each(['netmode', 'network-mode'], {
    instead: 'leave it out, each network has its own, netctl net create --encap',
  }),
  ...each(['fwdmode', 'forward-mode'], {
    instead: 'leave it out, it is a setting of the cluster, netctl global set --fwd-mode',
  }),
  ...each(['use-json-log', 'json-log'], { instead: 'leave it out, the log is JSON always' }),
  ...each(['use-syslog', 'syslog', 'syslog-url'], {
    instead: "leave it out, the log goes to standard error, which systemd's journal takes",
  }),
  debug: { instead: 'write --log-level debug' },
};

export function each(names: readonly string[], flag: FormerFlag): FormerFlags {
  return Object.fromEntries(names.map((name) => [name, flag]));
}
