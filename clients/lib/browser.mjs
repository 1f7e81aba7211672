#!/usr/bin/env node
// What clients start as the user's browser ($BROWSER): logs in as CLIENTS_USER and
// goes where the issuer sends it. With CLIENTS_CHROMIUM it is a real one without a
// screen, whose buttons are clicked.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { start, until } from './host.mjs';
import { logIn } from './issuer.mjs';

const [address] = process.argv.slice(2);
const user = process.env.CLIENTS_USER;

async function click() {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'chromium-'));
  const p = start(process.env.CLIENTS_CHROMIUM, ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
    `--user-data-dir=${profile}`, '--remote-debugging-port=0', 'about:blank'], { env: { ...process.env, HOME: profile } });
  try {
    await until('chromium starts', () => p.err.includes('DevTools listening'));
    const port = new URL(p.err.match(/DevTools listening on (\S+)/)[1]).port;
    const [page] = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()).filter(t => t.type === 'page');
    const ws = new WebSocket(page.webSocketDebuggerUrl);
    await new Promise((done, failed) => { ws.onopen = done; ws.onerror = failed; });
    let last = 0;
    const waiting = new Map();
    ws.onmessage = m => { const r = JSON.parse(m.data); waiting.get(r.id)?.(r.result); };
    const send = (method, params) => new Promise(done => { waiting.set(++last, done); ws.send(JSON.stringify({ id: last, method, params })); });
    const inPage = async expression => (await send('Runtime.evaluate', { expression, returnByValue: true }))?.result?.value;
    await send('Page.navigate', { url: address });
    // Each page has one form; the last is the client's own and has none.
    await until('the client got its code', async () => {
      const at = await inPage('location.href') ?? '';
      if (/[?&]code=/.test(at) && !at.startsWith(new URL(address).origin)) return await inPage('document.readyState') === 'complete';
      await inPage(`(() => {
        const login = document.querySelector('input[name=login]');
        if (login) { login.value = ${JSON.stringify(user)}; document.querySelector('input[name=password]').value = 'any'; }
        if (document.readyState === 'complete') document.querySelector('button[type=submit]')?.click();
      })()`);
      return false;
    });
    ws.close();
  } finally {
    p.child.kill('SIGKILL');
    await p.ended;
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

if (process.env.CLIENTS_CHROMIUM) await click();
else await fetch(await logIn(address, user));
