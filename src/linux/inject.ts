/** Frames of our own, as if a device had received them, or as what it sends. */
import { closeBpf, loadProgram, runProgram } from './bpf.ts';
import { assemble } from './ebpf.ts';

const BPF_CLONE_REDIRECT = 13;
const BPF_F_INGRESS = 1;

/** `device`: index in the thread's current namespace. Nobody answers whether anything became of the frames. */
export function inject(
  device: number,
  frames: readonly Buffer[],
  as: 'received' | 'sent' = 'received',
): void {
  const code = assemble()
    .set(2, device)
    .set(3, as === 'received' ? BPF_F_INGRESS : 0)
    .call(BPF_CLONE_REDIRECT)
    .set(0, 0)
    .exit()
    .code();
  const program = loadProgram('contiv_inject', code);
  try {
    for (const frame of frames) runProgram(program, frame);
  } finally {
    closeBpf(program);
  }
}
