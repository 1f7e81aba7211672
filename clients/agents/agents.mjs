// Coding agents, run as a person would from a shell, on the model that replays.
import fs from 'node:fs';
import path from 'node:path';
import { pixel } from '../lib/cases.mjs';
import { start, within } from '../lib/host.mjs';
import { NetworkServer, stdio } from '../lib/server.mjs';
import { reading } from './golden.mjs';
import { Model } from './model.mjs';
import { script } from './script.mjs';

// Each agent writes its configuration below home and says how it is started.
const codex = {
  name: 'Codex',
  package: '@openai/codex',
  transports: ['stdio', 'http'],
  prepare({ home, target, model }) {
    const server = target.kind === 'stdio' ? `command = ${JSON.stringify(target.command)}\nargs = ${JSON.stringify(target.args)}`
      : `url = "${target.url}"\nbearer_token_env_var = "SANDBOX_TOKEN"`;
    fs.mkdirSync(path.join(home, '.codex'));
    fs.writeFileSync(path.join(home, '.codex/config.toml'), `model = "gpt-5"
model_provider = "replay"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.replay]
name = "replay"
base_url = "${model.url}/v1"
wire_api = "responses"
env_key = "REPLAY_KEY"
request_max_retries = 0
stream_max_retries = 0
[mcp_servers.sandbox]
${server}
startup_timeout_sec = 60
`);
    return {
      command: 'codex', args: ['exec', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', 'go'],
      env: { REPLAY_KEY: 'none', SANDBOX_TOKEN: target.token ?? '' },
    };
  },
};

const gemini = {
  name: 'Gemini CLI',
  package: '@google/gemini-cli',
  transports: ['stdio', 'http'],
  prepare({ home, target, model }) {
    const server = target.kind === 'stdio' ? { command: target.command, args: target.args }
      : { httpUrl: target.url, headers: { Authorization: `Bearer ${target.token}` } };
    fs.mkdirSync(path.join(home, '.gemini'));
    fs.writeFileSync(path.join(home, '.gemini/settings.json'), JSON.stringify({
      security: { auth: { selectedType: 'gemini-api-key' }, folderTrust: { enabled: false } },
      privacy: { usageStatisticsEnabled: false },
      telemetry: { enabled: false },
      general: { enableAutoUpdate: false, enableAutoUpdateNotification: false },
      mcpServers: { sandbox: { ...server, trust: true } },
    }));
    return {
      command: 'gemini', args: ['-p', 'go', '--yolo', '-m', 'gemini-2.5-flash'],
      env: { GEMINI_API_KEY: 'none', GOOGLE_GEMINI_BASE_URL: model.url, GEMINI_CLI_TRUST_WORKSPACE: 'true' },
    };
  },
};

const opencode = {
  name: 'opencode',
  package: 'opencode-ai',
  transports: ['stdio', 'http'],
  prepare({ work, target, model }) {
    const server = target.kind === 'stdio' ? { type: 'local', command: [target.command, ...target.args] }
      : { type: 'remote', url: target.url, headers: { Authorization: `Bearer ${target.token}` }, oauth: false };
    const configuration = {
      autoupdate: false, share: 'disabled', model: 'replay/m', small_model: 'replay/m',
      provider: {
        replay: {
          npm: '@ai-sdk/openai-compatible', name: 'replay', options: { baseURL: `${model.url}/v1`, apiKey: 'none' },
          models: { m: { name: 'm', tool_call: true, attachment: true, modalities: { input: ['text', 'image'], output: ['text'] }, limit: { context: 1_000_000, output: 10_000 } } },
        },
      },
      mcp: { sandbox: { ...server, enabled: true, timeout: 60_000 } },
    };
    fs.writeFileSync(path.join(work, 'opencode.json'), JSON.stringify(configuration));
    return {
      command: 'opencode', args: ['run', 'go'],
      env: { OPENCODE_DISABLE_AUTOUPDATE: '1', OPENCODE_DISABLE_MODELS_FETCH: '1', OPENCODE_DISABLE_LSP_DOWNLOAD: '1', OPENCODE_DISABLE_DEFAULT_PLUGINS: '1' },
    };
  },
};

export const agents = [codex, gemini, opencode];

// judge says what came of each case, from what the model was given.
function judge(model, tools, tool) {
  const given = name => model.results[script.findIndex(s => s.name === name)] ?? '';
  const has = (name, ...patterns) => {
    const text = JSON.stringify(given(name));
    const missing = patterns.find(p => !p.test(text));
    return missing ? { ok: false, error: `the model does not read ${missing}: ${text.slice(0, 400)}` } : { ok: true };
  };
  const missing = tools.filter(t => ![...model.tools].some(n => n.includes('sandbox') && n.endsWith(t)));
  const all = (...checks) => checks.find(c => !c.ok) ?? { ok: true };
  return {
    connect: model.sent > 0 ? { ok: true } : { ok: false, error: `the model was offered no tool of the server: ${tool}` },
    list: missing.length ? { ok: false, error: `tools missing: ${missing}` } : { ok: true },
    short: all(has('a short command', /Process exited with code 3/, /out\\n+err/), has('an edit', /\+2/)),
    long: all(has('a long command', /step 1\\nstep 2\\nstep 3/), has('output that is cut', /tokens in \d+ lines cut: read_output/)),
    tty: has('input for it', /got <abc>/),
    picture: has('the picture', new RegExp(pixel.replace(/[+/]/g, '\\$&'))),
    error: all(has('a file that is missing', /not_found: missing\.txt/), has('an edit that does not match', /edit_not_found: /)),
  };
}

// runAgent answers {results, text}: the cases, and what its model was given.
export async function runAgent({ agent, transport, bin, dir, tools }) {
  const home = path.join(dir, 'home');
  const work = path.join(dir, 'work');
  for (const d of [home, work]) fs.mkdirSync(d, { recursive: true });
  const server = transport === 'stdio' ? null : new NetworkServer({ bin, dir: path.join(dir, 'server'), kind: transport });
  const model = new Model(script);
  await model.start();
  let p;
  try {
    if (server) await server.start();
    const root = path.join(dir, 'root');
    fs.mkdirSync(root);
    const target = server ? server.target() : stdio({ bin, dir, root });
    const { command, args, env } = agent.prepare({ home, work, target, model });
    p = start(command, args, { cwd: work, env: { PATH: process.env.PATH, HOME: home, TMPDIR: dir, TERM: 'dumb', NO_COLOR: '1', ...env } });
    const code = await within(`${agent.name} ends; ${model.sent} calls were sent`, p.ended, 200_000);
    if (model.failure) throw model.failure;
    const results = judge(model, tools, p.err.slice(-600));
    if (code !== 0 || model.results.length < script.length) {
      const error = `exit ${code} after ${model.results.length} of ${script.length} results: ${p.out.slice(-600)} ${p.err.slice(-600)}`;
      for (const r of Object.values(results)) if (!r.ok) r.error += `\n${error}`;
      if (Object.values(results).every(r => r.ok)) results.connect = { ok: false, error };
    }
    return { results, text: reading(model, dir) };
  } finally {
    p?.child.kill('SIGKILL');
    model.stop();
    if (server) await server.stop();
  }
}
