/** Entry of bin/netkube. */
import { KubeConfig } from '@kubernetes/client-node';
import { pino } from 'pino';
import { oneLine } from '../model/text.ts';
import { startController } from './controller.ts';
import { type Options, readOptions, USAGE } from './options.ts';

function wrongUsage(error: unknown): never {
  process.stderr.write(`netkube: ${oneLine((error as Error).message)} (see netkube --help)\n`);
  process.exit(1);
}

const options = ((): Options | 'help' => {
  try {
    return readOptions(process.argv.slice(2));
  } catch (error) {
    return wrongUsage(error);
  }
})();

function readCluster(file: string): KubeConfig {
  const config = new KubeConfig();
  if (file === '') config.loadFromDefault();
  else config.loadFromFile(file);
  return config;
}

async function run(options: Options): Promise<void> {
  const log = pino({ name: 'netkube', level: options.logLevel, base: {} }, pino.destination(2));
  try {
    const controller = await startController(options, readCluster(options.kubeconfig), log);
    const end = (): void => {
      controller.close().then(
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
    log.debug({ err: error }, 'netkube cannot start');
    process.stderr.write(`netkube: ${oneLine((error as Error).message)}\n`);
    process.exit(3);
  }
}

if (options === 'help') process.stdout.write(USAGE);
else void run(options);
