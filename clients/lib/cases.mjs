// The eleven cases. Each takes a suite: connect(target, options) of the client
// under test, and a bench with the servers; it throws when what a user of that
// client would expect does not come.
//
// A connection has: server (the name the client was told), list() -> names,
// call(name, args, {signal, onProgress}) -> {text, isError, images}, close().
import assert from 'node:assert/strict';
import { mark, sleeping, until, within } from './host.mjs';

// A PNG of one red pixel.
export const pixel = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';

const exec = (c, cmd, more = {}, options = {}) => c.call('exec_command', { cmd, ...more }, options);

function succeeded(r, pattern) {
  assert.ok(!r.isError, `an error instead of a result: ${r.text}`);
  assert.match(r.text, pattern);
}

// works makes sure that a connection still serves after what went before.
const works = async c => succeeded(await exec(c, 'echo still $((40 + 2))'), /still 42/);

// killed runs a long command, ends the call by stop, and waits until the
// command is gone; the connection must go on.
async function killed(c, stop) {
  const m = mark();
  const controller = new AbortController();
  const call = c.call('exec_command', { cmd: `sleep ${m}`, yield_time_ms: 40_000 }, { signal: controller.signal })
    .then(r => r.isError ? 'error' : `a result: ${r.text}`, () => 'error');
  await until('the command runs', () => sleeping(m));
  stop(controller);
  assert.equal(await within('the client gives up', call, 60_000), 'error');
  await until('the command is killed', () => !sleeping(m), 10_000);
  await works(c);
}

export const cases = {
  async connect({ open }) {
    const c = await open();
    if (c.server !== undefined) assert.equal(c.server, 'mcp-sandbox');
  },

  async list({ open, tools }) {
    const names = (await (await open()).list()).sort();
    assert.deepEqual(names, tools);
  },

  async short({ open }) {
    const r = await exec(await open(), 'echo out; echo err >&2; exit 3');
    succeeded(r, /Process exited with code 3[^]*Output:\s+out\s+err/);
  },

  async long({ open }) {
    const c = await open();
    const seen = [];
    const r = await exec(c, 'for i in 1 2 3 4; do echo step $i; sleep 0.5; done', { yield_time_ms: 30_000 }, { onProgress: p => seen.push(p) });
    succeeded(r, /step 1\s+step 2\s+step 3\s+step 4/);
    assert.ok(seen.length > 0, 'no progress was told');
    for (let i = 1; i < seen.length; i++) assert.ok(seen[i].progress > seen[i - 1].progress, 'progress does not grow');
  },

  async tty({ open }) {
    const c = await open();
    const started = await exec(c, 'test -t 0 && read -r x && echo "got <$x>"', { tty: true, yield_time_ms: 300 });
    const id = started.text.match(/session ID (\d+)/);
    assert.ok(id, `no session ID: ${started.text}`);
    succeeded(await c.call('write_stdin', { session_id: Number(id[1]), chars: 'abc\n', yield_time_ms: 10_000 }), /got <abc>/);
  },

  async abort({ open }) {
    await killed(await open(), controller => controller.abort());
  },

  async timeout({ open }) {
    const c = await open({ timeout: 5_000 });
    await works(c);
    await killed(c, () => {});
  },

  async picture({ open }) {
    const c = await open();
    succeeded(await exec(c, `echo ${pixel} | base64 -d > dot.png`), /code 0/);
    const r = await c.call('read_file', { path: 'dot.png' });
    assert.ok(!r.isError, r.text);
    assert.deepEqual(r.images, [pixel]);
  },

  async error({ open }) {
    const c = await open();
    const r = await c.call('read_file', { path: 'missing.txt' });
    assert.ok(r.isError, `not told as an error: ${r.text}`);
    assert.match(r.text, /not_found: .*missing\.txt/);
    await works(c);
  },

  async apart({ pairs }) {
    for (const open of pairs) {
      const [a, b] = await open();
      succeeded(await exec(a, 'echo mine > only-a; echo mine > /tmp/only-a; ls'), /only-a/);
      const seen = await exec(b, 'ls . /tmp; echo done');
      succeeded(seen, /done/);
      assert.doesNotMatch(seen.text, /only-a/);
    }
  },

  async restart({ open, restart }) {
    const c = await open();
    succeeded(await exec(c, 'echo kept > file'), /code 0/);
    const { client, keeps } = await restart(c);
    await works(client);
    if (keeps) succeeded(await exec(client, 'cat file'), /kept/);
  },
};
