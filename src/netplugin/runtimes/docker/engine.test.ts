import http from 'node:http';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../../../test/folder.ts';
import { openDocker } from './engine.ts';

/** A Docker that refuses on command; answers what it was asked. */
async function dockerThat(answer: http.RequestListener): Promise<{ socket: string; asked: string[] }> {
  const socket = path.join(temporaryFolder(), 'docker.sock');
  const asked: string[] = [];
  const server = http.createServer((request, response) => {
    asked.push(`${request.method} ${decodeURIComponent(request.url ?? '')}`);
    answer(request, response);
  });
  await new Promise<void>((done) => server.listen(socket, done));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { socket, asked };
}

it("a refusal of Docker has its number and its reason, whether or not it is Docker's own JSON", async () => {
  const { socket } = await dockerThat((request, response) => {
    response.statusCode = request.method === 'DELETE' ? 403 : 502;
    response.end(request.method === 'DELETE' ? '{"message":"network has active endpoints"}' : 'bad gateway');
  });
  const docker = openDocker(socket);
  await expect(docker.getNetwork('n1').remove()).rejects.toMatchObject({
    statusCode: 403,
    message: 'Docker refuses DELETE /networks/n1: network has active endpoints (403)',
  });
  await expect(docker.listNetworks()).rejects.toMatchObject({
    statusCode: 502,
    message: 'Docker refuses GET /networks: bad gateway (502)',
  });
  await expect(openDocker(`${socket}.none`).listNetworks()).rejects.toThrow('ENOENT');
});

it('filters are asked for as JSON, and a list that Docker sends in pieces is read whole', async () => {
  const { socket, asked } = await dockerThat((_, response) => {
    response.write('[{"Id":"n');
    setTimeout(() => response.end('1"}]'), 20);
  });
  const networks = await openDocker(socket).listNetworks({ filters: { driver: ['netplugin'] } });
  expect(networks).toEqual([{ Id: 'n1' }]);
  expect(asked).toEqual(['GET /networks?filters={"driver":["netplugin"]}']);
});
