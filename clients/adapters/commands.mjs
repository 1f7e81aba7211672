// Clients that are commands: each call is a run of its own.
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lib/host.mjs';
import { shown } from './typescript.mjs';

const inspector = {
  name: 'Inspector CLI',
  package: '@modelcontextprotocol/inspector',
  transports: ['stdio', 'http'],
  async connect(target) {
    const server = target.kind === 'stdio' ? [target.command, ...target.args]
      : [target.url, '--transport', 'http', '--header', `Authorization: Bearer ${target.token}`];
    const inspect = async (...options) => {
      const { code, out, err } = await run('mcp-inspector', ['--cli', ...options, '--format', 'json', ...server]);
      let said;
      try { said = JSON.parse(out); } catch { throw new Error(`exit ${code}: ${out} ${err}`); }
      return said.result ?? said;
    };
    return {
      list: async () => (await inspect('--method', 'tools/list', '--strict')).tools.map(t => t.name),
      call: async (name, args) => shown(await inspect('--method', 'tools/call', '--tool-name', name, '--tool-args-json', JSON.stringify(args))),
      close: async () => {},
    };
  },
};

const claude = {
  name: 'Claude Code',
  package: '@anthropic-ai/claude-code',
  transports: ['stdio', 'http'],
  async connect(target) {
    const home = fs.mkdtempSync(path.join(process.env.TMPDIR, 'claude-'));
    const env = {
      PATH: process.env.PATH, HOME: home, TMPDIR: home, DISABLE_TELEMETRY: '1', DISABLE_ERROR_REPORTING: '1', DISABLE_AUTOUPDATER: '1',
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    };
    const server = target.kind === 'stdio' ? ['sandbox', '--', target.command, ...target.args]
      : ['--transport', 'http', 'sandbox', target.url, '--header', `Authorization: Bearer ${target.token}`];
    const options = { cwd: home, env };
    const added = await run('claude', ['mcp', 'add', ...server], options);
    if (added.code !== 0) throw new Error(`claude mcp add: ${added.out} ${added.err}`);
    const listed = await run('claude', ['mcp', 'list'], options);
    if (!/sandbox: .* Connected/.test(listed.out)) throw new Error(`claude mcp list: ${listed.out} ${listed.err}`);
    return { close: async () => fs.rmSync(home, { recursive: true, force: true }) };
  },
};

export default [inspector, claude];
