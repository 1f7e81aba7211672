// Runs the cases for one client over one transport.
import fs from 'node:fs';
import path from 'node:path';
import { cases } from './cases.mjs';
import { within } from './host.mjs';
import { NetworkServer, stdio } from './server.mjs';

// A case that takes longer has failed.
const caseLimit = 240_000;

// runSuite answers {case: {ok, error}}. skip(case) spares cases for which the
// client has no way.
export async function runSuite({ adapter, transport, bin, dir, tools, skip }) {
  fs.mkdirSync(dir, { recursive: true });
  const server = transport === 'stdio' ? null : new NetworkServer({ bin, dir: path.join(dir, 'server'), kind: transport });
  const results = {};
  if (server) await server.start();
  let n = 0;
  try {
    for (const [name, body] of Object.entries(cases)) {
      if (skip(name)) continue;
      const began = Date.now();
      const opened = [];
      const home = path.join(dir, `${name}-${++n}`);
      const root = path.join(home, 'root');
      fs.mkdirSync(root, { recursive: true });
      const connect = async (target, options = {}) => {
        const c = await within('connect', adapter.connect(target, options), 120_000);
        opened.push(c);
        return c;
      };
      const target = () => server ? server.target() : stdio({ bin, dir: home, root });
      // Two principals, or two names of one; two private workspaces over stdio.
      const pairs = transport === 'stdio' ? [['a', 'b'].map(d => () => stdio({ bin, dir: path.join(home, d) }))]
        : [['ann', 'bob'].map(p => () => server.target(p))];
      if (transport === 'http') pairs.push(['one', 'two'].map(n => () => server.target('ann', n)));
      const bench = {
        tools,
        open: options => connect(target(), options),
        pairs: pairs.map(targets => () => Promise.all(targets.map(t => connect(t())))),
        // Over HTTP the same client goes on. Over stdio its server is its
        // child, so a new client starts the next one on the same folder; over
        // SSE a session ends with its stream, and a new one is all there can be.
        restart: async c => {
          if (server) {
            await server.stop();
            await server.start();
          }
          if (transport === 'http') return { client: c, keeps: true };
          await within('close', c.close(), 20_000).catch(() => {});
          return { client: await connect(target()), keeps: transport === 'stdio' };
        },
      };
      try {
        await within(name, body(bench), caseLimit);
        results[name] = { ok: true };
      } catch (e) {
        results[name] = { ok: false, error: e.message };
      }
      for (const c of opened) await within('close', c.close(), 20_000).catch(() => {});
      results[name].ms = Date.now() - began;
      fs.rmSync(home, { recursive: true, force: true });
    }
  } finally {
    if (server) await server.stop();
  }
  return results;
}
