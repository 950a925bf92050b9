/** Global setup of what needs the kernel: one line where the right is missing. */
export default function setup(): void {
  if (process.getuid?.() !== 0) throw new Error('these tests must run as root: they make network namespaces');
}
