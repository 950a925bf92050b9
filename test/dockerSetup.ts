/** Tests on a newer Docker than the machine's: which one, make test-docker says. */
export default function setup(): void {
  if (!process.env.LAB_DOCKER)
    throw new Error('these tests need LAB_DOCKER, 28 or 29: run make test-docker DOCKER=29');
}
