// What the harness sees of the machine: conditions to wait for, processes by a
// mark in their command line, servers to start and stop.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

export const sleep = ms => new Promise(done => setTimeout(done, ms));

// until waits for a condition and throws with what after limit ms.
export async function until(what, condition, limit = 30_000) {
  const end = Date.now() + limit;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`after ${limit / 1000} s: ${what}`);
    await sleep(50);
  }
}

// within rejects when a promise takes longer than limit ms.
export function within(what, promise, limit = 60_000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer after ${limit / 1000} s: ${what}`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

let marks = 0;
// mark is an argument for sleep that no other process of the machine has.
export const mark = () => `4${process.pid}.${1000 + ++marks}`;

// sleeping tells whether "sleep MARK" runs anywhere on this machine; the
// processes of every sandbox are seen from here.
export function sleeping(of) {
  for (const pid of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      if (fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1') === `sleep\0${of}\0`) return true;
    } catch { /* ended meanwhile */ }
  }
  return false;
}

const children = new Set();
process.on('exit', () => { for (const c of children) c.kill('SIGKILL'); });

// start runs a program and collects what it prints.
export function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const p = { child, out: '', err: '' };
  children.add(child);
  child.stdout?.on('data', d => { p.out += d; });
  child.stderr?.on('data', d => { p.err += d; });
  p.ended = new Promise(done => {
    child.on('error', e => { p.err += e.message; children.delete(child); done(-1); });
    child.on('close', (code, signal) => { children.delete(child); done(code ?? signal); });
  });
  return p;
}

// run is start for a program that ends by itself.
export async function run(command, args, options = {}, limit = 120_000) {
  const p = start(command, args, options);
  try {
    const code = await within(path.basename(command), p.ended, limit);
    return { code, out: p.out, err: p.err };
  } catch (e) {
    p.child.kill('SIGKILL');
    throw new Error(`${e.message}\n${p.out}\n${p.err}`);
  }
}
