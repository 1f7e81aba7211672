// The standard calls whose results every agent's model is given.
import { pixel } from '../lib/cases.mjs';

const session = text => Number(text.match(/session ID (\d+)/)?.[1] ?? text.match(/"session_id": ?(\d+)/)?.[1] ?? 0);

export const script = [
  { name: 'a short command', case: 'short', tool: 'exec_command', args: { cmd: 'echo out; echo err >&2; exit 3' } },
  { name: 'a long command', case: 'long', tool: 'exec_command', args: { cmd: 'for i in 1 2 3; do echo step $i; sleep 0.6; done', yield_time_ms: 30_000 } },
  { name: 'a command on a terminal', case: 'tty', tool: 'exec_command', args: { cmd: 'read -r x && echo "got <$x>"', tty: true, yield_time_ms: 10_000 } },
  { name: 'input for it', case: 'tty', tool: 'write_stdin', args: text => ({ session_id: session(text), chars: 'abc\n', yield_time_ms: 10_000 }) },
  { name: 'output that is cut', case: 'long', tool: 'exec_command', args: { cmd: 'seq 1 30000' } },
  { name: 'a command killed at its limit', case: 'short', tool: 'exec_command', args: { cmd: 'echo before; sleep 4400', timeout_ms: 1_000, yield_time_ms: 30_000 } },
  { name: 'a file that is missing', case: 'error', tool: 'read_file', args: { path: 'missing.txt' } },
  { name: 'a picture is made', case: 'picture', tool: 'exec_command', args: { cmd: `echo ${pixel} | base64 -d > dot.png` } },
  { name: 'the picture', case: 'picture', tool: 'read_file', args: { path: 'dot.png' } },
  { name: 'a file is written', case: 'short', tool: 'write_file', args: { path: 'a.txt', content: 'one\ntwo\nthree\n' } },
  { name: 'an edit', case: 'short', tool: 'edit_file', args: { path: 'a.txt', old_text: 'two', new_text: '2' } },
  { name: 'an edit that does not match', case: 'error', tool: 'edit_file', args: { path: 'a.txt', old_text: 'four', new_text: '4' } },
];
