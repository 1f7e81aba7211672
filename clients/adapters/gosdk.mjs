// The Go SDK's client, in a process of its own (../gosdk) that is told what to
// do line by line.
import readline from 'node:readline';
import { start } from '../lib/host.mjs';
import { shown } from './typescript.mjs';

let driver;
function drive() {
  if (driver) return driver;
  const p = start(process.env.CLIENTS_GOSDK, [], { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting = new Map();
  driver = {
    next: 0,
    send(request, { signal, onProgress } = {}) {
      const id = ++driver.next;
      return new Promise((done, failed) => {
        waiting.set(id, { done, failed, onProgress });
        signal?.addEventListener('abort', () => driver.send({ op: 'cancel', of: id }));
        p.child.stdin.write(JSON.stringify({ id, ...request }) + '\n');
      });
    },
  };
  readline.createInterface({ input: p.child.stdout }).on('line', line => {
    const m = JSON.parse(line);
    if (m.progressOf) return waiting.get(Number(m.progressOf))?.onProgress?.(m);
    const w = waiting.get(m.id);
    waiting.delete(m.id);
    if (m.error) w.failed(new Error(m.error));
    else w.done(m);
  });
  p.ended.then(code => {
    for (const w of waiting.values()) w.failed(new Error(`the driver of the Go SDK ended: ${code}`));
  });
  return driver;
}

export default [{
  name: 'Go SDK',
  module: 'github.com/modelcontextprotocol/go-sdk',
  transports: ['stdio', 'http', 'sse'],
  async connect(target, { timeout } = {}) {
    const d = drive();
    const of = d.next + 1;
    const { server } = await d.send({ op: 'connect', target });
    return {
      server,
      list: async () => (await d.send({ op: 'list', of })).names,
      call: async (name, args, options) => shown((await d.send({ op: 'call', of, name, args, timeout }, options)).result),
      close: () => d.send({ op: 'close', of }),
    };
  },
}];
