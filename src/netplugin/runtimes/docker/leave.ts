/**
 * `netplugin leave`: takes our networks from this host's Docker, once netplugin has ended here for good. Docker makes three
 * calls for each network that it removes, and asks for a driver that is not there for 15 s each: so somebody answers them.
 */
import fs from 'node:fs';
import net from 'node:net';
import { listenOnSocket } from '../../control.ts';
import type { LeaveOptions } from '../../options.ts';
import { ABOUT } from './driver.ts';
import { openDocker } from './engine.ts';
import { DRIVER } from './networks.ts';
import { type Call, closeServer, pluginServer } from './plugin.ts';
import { SWARM_DRIVER } from './swarm.ts';

/** The network's addresses and pools are netmaster's, and what the driver keeps of it goes with its folder. */
const GIVEN_BACK: Readonly<Record<string, Call>> = {
  'IpamDriver.ReleaseAddress': () => ({}),
  'IpamDriver.ReleasePool': () => ({}),
  'NetworkDriver.DeleteNetwork': () => ({}),
};

/**
 * Throws an Error that says so where netplugin runs, containers of Docker's are on our networks, or Swarm's plugin is there. Answers what takes the networks
 * away; `say` is told in a line of each that is gone.
 */
export async function readyToLeave(
  { dockerSocket, pluginSocket }: LeaveOptions,
  say: (line: string) => void,
): Promise<() => Promise<void>> {
  if (await answers(pluginSocket))
    throw new Error('netplugin runs on this host: stop it first, systemctl disable --now contiv-netplugin');
  const docker = openDocker(dockerSocket);
  if (!(await answers(dockerSocket)))
    return async () => {
      fs.rmSync(pluginSocket, { force: true }); // a dockerd that starts would ask there
      say(
        `Docker does not answer at ${dockerSocket}: its networks stay; start it, and netplugin leave again`,
      );
    };
  const all = await docker.listNetworks({ filters: { driver: [DRIVER, SWARM_DRIVER] } });
  const networks = all.filter(({ Driver }) => Driver === DRIVER);
  const held: string[] = [];
  for (const { Id, Name } of all) {
    const { Containers = {} } = await docker.getNetwork(Id).inspect();
    for (const { Name: container } of Object.values<{ Name: string }>(Containers))
      held.push(`${container} on ${Name}`);
  }
  if (held.length > 0)
    throw new Error(
      `containers are on this host's networks (${held.join(', ')}): remove them first, docker rm -f`,
    );
  if ((await docker.listPlugins()).some(({ Name }) => Name === SWARM_DRIVER))
    throw new Error(
      `Docker's plugin ${SWARM_DRIVER} would wait for netplugin for ever: remove it first, netplugin swarm remove`,
    );
  return () => forget(docker, networks, pluginSocket, say);
}

async function forget(
  docker: ReturnType<typeof openDocker>,
  networks: readonly { Id: string; Name: string }[],
  pluginSocket: string,
  say: (line: string) => void,
): Promise<void> {
  const refused: string[] = [];
  const server = pluginServer(new Map(Object.entries({ ...ABOUT, ...GIVEN_BACK })), (call, error) =>
    refused.push(`${call}: ${error.message}`),
  );
  await listenOnSocket(server, pluginSocket);
  try {
    for (const { Id, Name } of networks) {
      await docker.getNetwork(Id).remove();
      say(`Removed ${Name}`);
    }
    if (refused.length > 0) throw new Error(refused.join('; '));
  } finally {
    await closeServer(server);
    fs.rmSync(pluginSocket, { force: true });
  }
}

/** A process listens there; the file alone is what one that was killed has left. */
function answers(socket: string): Promise<boolean> {
  return new Promise((done) => {
    const connection = net.connect(socket, () => {
      connection.destroy();
      done(true);
    });
    connection.once('error', () => done(false));
  });
}
