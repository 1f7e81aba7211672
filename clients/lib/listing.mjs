// The tools that the server itself lists, by which every client's list is judged.
import readline from 'node:readline';
import { start, within } from './host.mjs';

export async function listedTools(bin, dir) {
  const p = start(bin, ['serve', '--state-dir', dir], { stdio: ['pipe', 'pipe', 'pipe'] });
  const say = m => p.child.stdin.write(JSON.stringify({ jsonrpc: '2.0', ...m }) + '\n');
  say({ id: 1, method: 'initialize', params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'listing', version: '1' } } });
  say({ method: 'notifications/initialized' });
  say({ id: 2, method: 'tools/list' });
  const names = await within('tools/list', (async () => {
    for await (const line of readline.createInterface({ input: p.child.stdout })) {
      const m = JSON.parse(line);
      if (m.id === 2) return m.result.tools.map(t => t.name);
    }
    throw new Error(`the server ended: ${p.err}`);
  })());
  p.child.stdin.end();
  await within('the server ends', p.ended);
  const network = [...names, 'session_open', 'session_close'];
  return transport => (transport === 'stdio' ? names : network).toSorted();
}
