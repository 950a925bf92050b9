import http from 'node:http';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { type ControlSubject, startControl } from './control.ts';

it('the control socket answers what it is asked for, names its paths, and outlives what fails behind it', async () => {
  const socketPath = path.join(temporaryFolder(), 'agent.sock');
  const subject = {
    state() {
      throw new Error('no state');
    },
    attachments: new Map([['ep1', { phase: 'joined' }]]),
    metrics: { contentType: 'text/plain', text: () => Promise.reject(new Error('no metrics')) },
  };
  const control = await startControl(socketPath, subject as unknown as ControlSubject);
  onTestFinished(() => control.close());
  const get = (url: string): Promise<unknown> =>
    new Promise((done) => {
      http.get({ socketPath, path: url }, async (response) => {
        let body = '';
        for await (const chunk of response.setEncoding('utf8')) body += chunk;
        done([response.statusCode, JSON.parse(body)]);
      });
    });
  const refused = (code: string, message: string) => ({ error: { code, message } });
  expect(await get('/state')).toEqual([500, refused('internal', 'no state')]);
  expect(await get('/metrics')).toEqual([500, refused('internal', 'no metrics')]);
  expect(await get('/attachments')).toEqual([200, [{ phase: 'joined' }]]);
  expect(await get('/')).toEqual([
    404,
    refused('not_found', 'ask for one of /health, /state, /attachments, /examined, /metrics'),
  ]);
});
