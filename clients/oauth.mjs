// Drives clients that log their user in by themselves: the server names a real
// authorization server, the client finds it, registers, and asks the user.
// usage: node oauth.mjs BINARY DIR; ./run prepares it.
import fs from 'node:fs';
import path from 'node:path';
import { auth as auth1 } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client as Client1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as Stdio1 } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport as HTTP1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { auth as auth2, Client as Client2, StreamableHTTPClientTransport as HTTP2 } from '@modelcontextprotocol/client';
import { run, start, until, within } from './lib/host.mjs';
import { logIn, startIssuer } from './lib/issuer.mjs';

const [bin, dir] = process.argv.slice(2);
let resource;
const issuer = await startIssuer({ audience: () => resource });
const info = { name: 'clients-harness', version: '1.0.0' };

// startServer serves on a port that is known before the issuer is asked about it.
async function startServer() {
  const state = path.join(dir, 'oauth-state');
  fs.mkdirSync(state, { recursive: true });
  const port = 20_000 + process.pid % 20_000;
  resource = `http://127.0.0.1:${port}/mcp`;
  const p = start(bin, ['serve', '--transport', 'http', '--listen', `127.0.0.1:${port}`, '--state-dir', state, '--oauth-issuer', issuer.url,
    '--oauth-audience', resource, '--oauth-scope', 'box=all', '--oauth-scope', 'look=read-only']);
  await until('the server is ready', () => {
    if (p.child.exitCode !== null) throw new Error(`the server ended: ${p.err}`);
    return fetch(`http://127.0.0.1:${port}/readyz`).then(r => r.ok, () => false);
  });
  return p;
}

// User is what an application keeps for its user.
class User {
  constructor(name) { this.name = name; }
  redirectUrl = 'http://127.0.0.1:9/callback';
  get clientMetadata() {
    return { client_name: 'harness', redirect_uris: [this.redirectUrl], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'none' };
  }
  clientInformation() { return this.client; }
  saveClientInformation(c) { this.client = c; }
  tokens() { return this.kept; }
  saveTokens(t) { this.kept = t; }
  saveCodeVerifier(v) { this.verifier = v; }
  codeVerifier() { return this.verifier; }
  async redirectToAuthorization(url) { this.back = await logIn(url, this.name); }
}

const text = result => result.content.map(c => c.text ?? '').join('');
const sh = (client, cmd) => client.callTool({ name: 'exec_command', arguments: { cmd } }).then(text);
function expect(what, ok, seen) {
  if (!ok) throw new Error(`${what}: ${JSON.stringify(seen)}`);
}

// sdk is the whole life of a login with one of the SDKs.
function sdk(Client, HTTP, auth, options) {
  const finish = (transport, back) => transport.finishAuth(back.searchParams.get('code'), back.searchParams.get('iss'));
  return async () => {
    const connect = async user => {
      for (let tries = 0; ; tries++) {
        const transport = new HTTP(new URL(resource), { authProvider: user });
        const client = new Client(info, options);
        try {
          await client.connect(transport);
          return { client, transport };
        } catch (e) {
          if (tries || !user.back) throw e;
          await finish(transport, user.back);
        }
      }
    };
    const ann = new User('ann');
    const { client } = await connect(ann);
    expect('a call', (await sh(client, 'echo of ann > f; cat f')).includes('of ann'));
    const issued = issuer.seen.refreshed;
    ann.kept.access_token = 'an.old.one';
    expect('a call with an old token', (await sh(client, 'cat f')).includes('of ann'));
    expect('the token was refreshed', issuer.seen.refreshed === issued + 1, issuer.seen);
    await client.close();

    // The same application, which registered for all scopes, with another user.
    const bob = new User('bob');
    bob.client = ann.client;
    expect('a login to look', await auth(bob, { serverUrl: resource, scope: 'look' }) === 'REDIRECT');
    await auth(bob, { serverUrl: resource, authorizationCode: bob.back.searchParams.get('code'), iss: bob.back.searchParams.get('iss') });
    // The SDKs would try this first, and it gives no further scope.
    delete bob.kept.refresh_token;
    const looking = await connect(bob);
    const names = (await looking.client.listTools()).tools.map(t => t.name);
    expect('tools that change nothing', names.includes('ls') && !names.includes('exec_command'), names);
    bob.back = undefined;
    const refused = await sh(looking.client, 'cat f').catch(e => e);
    expect('the client asked for the scope of the call', bob.back?.searchParams.has('code'), String(refused));
    await finish(looking.transport, bob.back);
    const seen = await sh(looking.client, 'cat f');
    expect('another user has other files', /No such file/.test(seen), seen);
    await looking.client.close();
  };
}

// commands log in by a browser that they start.
const env = {
  ...process.env, CLIENTS_USER: 'ann', MCP_AUTO_OPEN_ENABLED: 'true', MCP_INSPECTOR_SECRET_STORE: 'memory',
  BROWSER: path.join(import.meta.dirname, 'lib', 'browser.mjs'),
};

const clients = {
  'TypeScript SDK 1.x': sdk(Client1, HTTP1, auth1),
  'TypeScript SDK 2.x, auto': sdk(Client2, HTTP2, auth2, { versionNegotiation: { mode: 'auto' } }),
  'mcp-remote': async () => {
    const client = new Client1(info);
    await client.connect(new Stdio1({ command: 'mcp-remote', args: [resource, '--transport', 'http-only'], env, stderr: 'ignore' }));
    expect('a call', (await sh(client, 'echo hi')).includes('hi'));
    await client.close();
  },
  'Inspector CLI': async () => {
    const port = Number(new URL(resource).port) + 1;
    const { code, out, err } = await run('mcp-inspector', ['--cli', '--method', 'tools/call', '--tool-name', 'exec_command', '--tool-args-json', '{"cmd":"echo hi"}',
      '--format', 'json', resource, '--transport', 'http', '--callback-url', `http://127.0.0.1:${port}/oauth/callback`], { env });
    expect('a call', code === 0 && out.includes('hi'), out + err);
  },
};

fs.chmodSync(env.BROWSER, 0o755);
const server = await startServer();
let failed = 0;
for (const [name, drive] of Object.entries(clients)) {
  issuer.seen.error = undefined;
  const began = Date.now();
  const before = issuer.seen.registered;
  try {
    await within(name, drive(), 60_000);
    expect('the client registered itself', issuer.seen.registered > before, issuer.seen);
    console.log(`${name} logs in by OAuth, ${((Date.now() - began) / 1000).toFixed(1)} s`);
  } catch (e) {
    failed++;
    console.error(`FAILED ${name} by OAuth: ${e.message}; the issuer says ${issuer.seen.error ?? 'nothing'}; ${server.err}`);
  }
}
server.child.kill('SIGTERM');
await within('the server stops', server.ended, 20_000);
await issuer.stop();
process.exit(failed ? 1 : 0);
