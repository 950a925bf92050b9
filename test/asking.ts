/** A namespace of a lab's cluster whose pods, Services and policies are asked by addresses of either family, by pods, by nodes and from outside. */
import { inUrl } from '../lab/state.ts';
import { openKubernetes, type PodOptions } from './kubernetes.ts';
import { openLab, until } from './lab.ts';

export const WEB = { matchLabels: { app: 'web' } };
const PORTS = [
  { name: 'web', protocol: 'TCP', port: 8080, targetPort: 'http' },
  { name: 'names', protocol: 'UDP', port: 8053, targetPort: 53 },
];

/** What curl's exit status says of nobody's answer: refused at once, or silent. */
const ASK = 'curl -s -m 3 "http://$0/hostname"; case $? in 0) echo;; 7) echo refused;; *) echo silent;; esac';

interface Declared {
  readonly clusterIPs: string[];
  readonly ports: { nodePort?: number }[];
}

export function openAsking(lab: string, space: string) {
  const { on } = openLab(lab);
  const { apply, get, pod, addressesOf, inPod } = openKubernetes(lab);
  const declare = (apiVersion: string, kind: string, name: string, spec: object): Promise<string> =>
    apply(JSON.stringify({ apiVersion, kind, metadata: { name, namespace: space }, spec }));

  return {
    /** Who answers, asked by a pod, a node, or outside. */
    async ask(from: string, address: string, port: number): Promise<string> {
      const target = `${inUrl(address)}:${port}`;
      const { out } = await (/^(?:outside|node\d)$/.test(from)
        ? on(from, 'bash -c', ASK, target)
        : inPod(`${space}/${from}`, 'bash -c', ASK, target));
      return out.trim();
    },
    /** One datagram each way. */
    async askByUdp(from: string, address: string, port: number): Promise<string> {
      const script = `exec 3<>/dev/udp/$0/$1; echo hostname >&3; timeout 3 dd bs=512 count=1 <&3 2>/dev/null`;
      return (await inPod(`${space}/${from}`, 'bash -c', script, address, `${port}`)).out.trim();
    },
    becomes: (what: string, look: () => Promise<string>, answer: string): Promise<true> =>
      until(what, async () => (await look()) === answer || undefined),

    server: (name: string, options: PodOptions = {}): Promise<void> =>
      pod(name, {
        namespace: space,
        args: 'netexec --http-port=80 --udp-port=53',
        ports: [{ name: 'http', containerPort: 80 }],
        ...options,
      }),
    policy: (name: string, spec: object): Promise<string> =>
      declare('networking.k8s.io/v1', 'NetworkPolicy', name, spec),
    /** Of the pods that WEB selects, at port 8080, and by UDP at 8053. */
    async service(name: string, spec: object): Promise<{ addresses: string[]; nodePort: number }> {
      await declare('v1', 'Service', name, { selector: WEB.matchLabels, ports: PORTS, ...spec });
      const declared = (await get<{ spec: Declared }>(`service ${name} -n ${space}`)).spec;
      return { addresses: declared.clusterIPs, nodePort: declared.ports[0]?.nodePort ?? 0 };
    },
    /** Its addresses, IPv4 first where it has both. */
    addresses: (name: string): Promise<string[]> => addressesOf(name, space),
  };
}
