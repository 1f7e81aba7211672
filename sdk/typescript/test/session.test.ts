import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import {
  file, InMemoryRemoteSnapshotStore, Manifest, NoopSnapshotSpec, SandboxError, SandboxProviderError,
} from '@openai/agents/sandbox';
import { sandboxError, ServerError, type Operation } from '../src/errors.ts';
import { ConfinedSandboxClient } from '../src/index.ts';
import { World } from './world.ts';

const code = (want: string) => (error: unknown) => {
  assert.ok(error instanceof SandboxError, String(error));
  assert.equal(error.code, want, error.message);
  return true;
};

const text = (bytes: Uint8Array | string) => (typeof bytes === 'string' ? bytes : new TextDecoder().decode(bytes));

for (const transport of ['stdio', 'http'] as const) {
  describe(`sessions over ${transport}`, () => {
    const world = new World(transport);
    after(() => world.close());

    test('the server is killed in the middle: a clear error, then a fresh start', async () => {
      const session = await (await world.client()).create(new Manifest({ entries: { f: file({ content: 'kept' }) } }));
      await session.execCommand({ cmd: 'echo edited > g', login: false });
      const call = session.exec({ cmd: 'sleep 30', yieldTimeMs: 20_000 });
      const [failed] = await Promise.all([
        assert.rejects(call, (error) => {
          assert.ok(error instanceof SandboxProviderError, String(error));
          assert.match(error.message, /the server ended during raw_exec|was not answered/);
          assert.equal(error.retryable, true);
          return true;
        }),
        new Promise((wait) => setTimeout(wait, 500)).then(() => world.kill()),
      ]);
      assert.equal(failed, undefined);
      await world.again();
      // The next call begins again, where the files are.
      const { stdout } = await session.exec({ cmd: 'cat f g; pgrep -x sleep', login: false });
      assert.equal(stdout, 'keptedited\n');
      assert.equal(await session.running(), true);
      await session.close();
      assert.equal(await session.running(), false);
      await assert.rejects(session.exec({ cmd: 'true' }), code('configuration_error'));
    });

    test('another process resumes a session, from a state without a secret', async () => {
      const client = await world.client(transport === 'stdio' ? {} : {});
      const session = await client.create(new Manifest({ entries: { f: file({ content: 'content-of-f' }) }, environment: { KEY: 'sk-secret' } }));
      const state = JSON.stringify(await client.serializeSessionState(session.state));
      for (const secret of ['sk-secret', 'content-of-f']) {
        assert.ok(!state.includes(secret), state);
      }
      await session.close();
      const script = `
        import { ConfinedSandboxClient } from ${JSON.stringify(new URL('../src/index.ts', import.meta.url).href)};
        const client = new ConfinedSandboxClient(JSON.parse(process.argv[1]));
        const session = await client.resume(await client.deserializeSessionState(JSON.parse(process.argv[2])));
        process.stdout.write((await session.exec({ cmd: 'cat f; echo " $KEY"', login: false })).stdout);
        await session.close();`;
      const { url } = await world.options();
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, '--', JSON.stringify({ stateDir: join(world.dir, 'state'), url }), state]);
      assert.equal(stdout, 'content-of-f sk-secret\n');
    });

    test('a state that was changed, or comes from elsewhere, is refused', async () => {
      const client = await world.client();
      const session = await client.create(new Manifest({ environment: { KEY: 'k' } }));
      const state = JSON.parse(JSON.stringify(await client.serializeSessionState(session.state))) as Record<string, unknown>;
      for (const change of [{ workspaceRootPath: '/etc' }, { sessionName: `agents-${'0'.repeat(32)}` }, { snapshot: { id: 'x', type: 'local', path: '/etc/passwd' } }, { sealed: 'AAAA' }]) {
        await assert.rejects(client.deserializeSessionState({ ...state, ...change }), code('sandbox_config_invalid'), JSON.stringify(change));
      }
      const elsewhere = new ConfinedSandboxClient({ stateDir: join(world.dir, 'other') });
      await assert.rejects(elsewhere.deserializeSessionState(state), code('sandbox_config_invalid'));
      const key = join(world.dir, 'state', 'agents.key');
      chmodSync(key, 0o644);
      await assert.rejects(client.deserializeSessionState(state), /open to others/);
      chmodSync(key, 0o600);
      const good = await client.deserializeSessionState(state);
      await assert.rejects(client.resume({ ...good, sessionName: '../../x' }), code('sandbox_config_invalid'));
      await session.close();
    });

    test('snapshots: none, in a remote store, and gone', async () => {
      const store = new InMemoryRemoteSnapshotStore();
      const client = await world.client({ snapshot: { type: 'remote', store } as never });
      const session = await client.create(new Manifest({ entries: { f: file({ content: 'remote' }) } }));
      const state = JSON.parse(JSON.stringify(await client.serializeSessionState(session.state)));
      await session.close();
      const again = await client.resume(await client.deserializeSessionState(state));
      assert.equal(text(await again.readFile({ path: 'f' })), 'remote');
      await again.close();
      const none = await world.client({ snapshot: new NoopSnapshotSpec() });
      const short = await none.create({ manifest: new Manifest({}) });
      const gone = JSON.parse(JSON.stringify(await none.serializeSessionState(short.state)));
      await short.close();
      await assert.rejects(none.resume(await none.deserializeSessionState(gone)), code('sandbox_config_invalid'));
    });

    test('hooks run once, all of them, and the first failure is told', async () => {
      const session = await (await world.client()).create();
      const ran: string[] = [];
      session.registerPreStopHook(() => { ran.push('a'); throw new Error('hook broke'); });
      session.registerPreStopHook(async () => { ran.push(text(await session.readFile({ path: '.' }).catch(() => 'b'))); });
      const off = session.registerPreStopHook(() => { ran.push('c'); });
      off();
      await assert.rejects(session.close(), /hook broke/);
      assert.deepEqual(ran, ['a', 'b']);
      await assert.rejects(session.close(), /hook broke/);
      assert.equal(ran.length, 2);
    });

    test('running is about this session', { skip: transport === 'stdio' }, async () => {
      const session = await (await world.client()).create();
      assert.equal(await session.running(), true);
      await session.call('raw_close', {});
      assert.equal(await session.running(), false);
      await session.close();
    });

    test('delete removes the session and its snapshot', async () => {
      const client = await world.client();
      const session = await client.create(new Manifest({}));
      await client.serializeSessionState(session.state);
      const path = String(session.state.snapshot?.path);
      assert.ok(existsSync(path) && existsSync(session.state.workspaceRootPath));
      await client.delete(session.state);
      assert.ok(!existsSync(path) && !existsSync(session.state.workspaceRootPath));
    });

    test('an archive and a file larger than a message', async () => {
      const session = await (await world.client()).create();
      await session.exec({ cmd: 'head -c 9000000 /dev/urandom > big; sha256sum big > sum', login: false, yieldTimeMs: 20_000 });
      const archive = await session.persistWorkspace();
      assert.ok(archive.length > 9_000_000);
      assert.equal((await session.readFile({ path: 'big' })).length, 9_000_000);
      await session.exec({ cmd: 'rm big', login: false });
      await session.hydrateWorkspace(archive);
      assert.match((await session.exec({ cmd: 'sha256sum -c sum', login: false, yieldTimeMs: 20_000 })).stdout, /big: OK/);
      await session.close();
    });

    test('a wait that is longer than the server waits in one call', { skip: transport === 'stdio' || process.env.MCP_SANDBOX_TEST_LONG === undefined }, async () => {
      const session = await (await world.client()).create();
      const result = await session.exec({ cmd: 'echo a; sleep 50; echo b', login: false, yieldTimeMs: 60_000 });
      assert.deepEqual([result.exitCode, result.stdout], [0, 'a\nb\n']);
      await session.close();
    });
  });
}

test('without namespaces /workspace is a name in commands', async () => {
  const args = ['--confine', 'landlock', ...(process.getuid?.() === 0 ? ['--allow-root'] : [])];
  const session = await new ConfinedSandboxClient({ args }).create(new Manifest({ entries: { 'd/f': file({ content: 'found\n' }) } }));
  const { stdout } = await session.exec({ cmd: 'cat /workspace/d/f; cd /workspace/d && pwd', login: false });
  assert.equal(stdout, 'found\n/workspace/d\n');
  assert.equal(session.resolveSandboxPath('/workspace/d'), join(session.state.workspaceRootPath, 'd'));
  await session.close();
});

test('many calls at once', async () => {
  const session = await new ConfinedSandboxClient().create();
  const all = await Promise.all(Array.from({ length: 30 }, async (_, i) => {
    await session.materializeEntry({ path: `f${i}`, entry: file({ content: String(i) }) });
    return (await session.exec({ cmd: `cat f${i}`, login: false })).stdout;
  }));
  assert.deepEqual(all, Array.from({ length: 30 }, (_, i) => String(i)));
  await session.close();
});

test('the errors of the server are those of the SDK', () => {
  const table: [Operation, string, string][] = [
    ['start', 'confinement_unavailable', 'workspace_start_error'], ['start', 'invalid_argument', 'sandbox_config_invalid'],
    ['exec', 'exec_failed', 'exec_transport_error'], ['exec', 'exec_timeout', 'exec_timeout'], ['exec', 'not_found', 'exec_transport_error'],
    ['exec', 'session_not_found', 'workspace_root_not_found'], ['stdin', 'process_not_found', 'pty_session_not_found'],
    ['read', 'not_found', 'workspace_read_not_found'], ['read', 'permission_denied', 'workspace_archive_read_error'],
    ['read', 'path_outside_workspace', 'invalid_manifest_path'], ['write', 'disk_full', 'workspace_archive_write_error'],
    ['write', 'path_protected', 'workspace_archive_write_error'], ['patch', 'not_found', 'apply_patch_file_not_found'],
    ['patch', 'conflict', 'apply_patch_invalid_diff'], ['patch', 'path_protected', 'apply_patch_invalid_path'],
    ['archive', 'unsafe_archive', 'archive_error'], ['archive', 'too_large', 'archive_error'], ['archive', 'disk_full', 'workspace_archive_write_error'],
    ['port', 'port_not_exposed', 'exposed_port_unavailable'],
  ];
  for (const [operation, from, to] of table) {
    const error = sandboxError(new ServerError(`${from}: why; next`), operation);
    assert.ok(error instanceof SandboxError);
    assert.equal(error.code, to, `${operation} ${from}`);
    assert.equal((error.details as { reason: string }).reason, from);
  }
});

test('options that contradict each other are refused', () => {
  for (const options of [{ fileIOProtection: 'off' as const }, { token: 't' }, { url: 'http://h/mcp', network: 'host' as const }, { url: 'http://h/mcp', binaryPath: '/x' }]) {
    assert.throws(() => new ConfinedSandboxClient(options), code('sandbox_config_invalid'));
  }
});

test('a setting that the server refuses is told', async () => {
  await assert.rejects(new ConfinedSandboxClient({ read: ['/does/not/exist'] }).create(), /not_found|does not exist/);
  await assert.rejects(new ConfinedSandboxClient({ binaryPath: '/does/not/exist' }).create(), code('provider_error'));
});
