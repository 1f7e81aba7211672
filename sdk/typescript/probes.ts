/**
 * What each public method does, tried on the SDK's own local client and on this one.
 * compare.ts runs them and writes the table of docs/agents-sdk.md.
 */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { file, localBindMountStrategy, Manifest, mount, type SandboxClient, type SandboxSession } from '@openai/agents/sandbox';

export interface World {
  client: Required<Pick<SandboxClient, 'create' | 'resume' | 'serializeSessionState' | 'deserializeSessionState'>>;
  session: Required<SandboxSession>;
  /** A file of the host that no session has business with, and an empty directory of it. */
  secretFile: string;
  hostDir: string;
  manifest: Manifest;
}

export interface Probe {
  method: string;
  does: string;
  run(world: World): Promise<unknown>;
  /** Where the two differ on purpose; without it a difference is a failure. */
  differs?: { verdict: 'better' | 'refused'; why: string };
}

const text = (bytes: string | Uint8Array) => (typeof bytes === 'string' ? bytes : new TextDecoder().decode(bytes));
/** What the command printed, without the lines that the SDK puts above it. */
const output = (reply: string) => reply.slice(reply.indexOf('Output:\n') + 8);
const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');

/** Waits for the end of a command that came back with a session. */
async function finish(session: Required<SandboxSession>, reply: string): Promise<string> {
  let all = output(reply);
  for (let i = 0; i < 40; i++) {
    const id = /session ID (\d+)/.exec(reply);
    if (id === null) {
      return all;
    }
    reply = await session.writeStdin({ sessionId: Number(id[1]), yieldTimeMs: 250 });
    all += output(reply);
  }
  return all;
}

export const probes: Probe[] = [
  { method: 'create', does: 'makes the entries of the manifest, with their modes', run: async ({ session }) => (await session.exec({ cmd: "stat -c '%n %a' README.md bin bin/run; cat README.md; bin/run", login: false })).stdout },
  { method: 'create', does: 'users in the manifest', run: ({ client }) => client.create(new Manifest({ users: [{ name: 'u' }] })) },
  { method: 'create', does: 'a path grant with hostPath', run: ({ client }) => client.create(new Manifest({ extraPathGrants: [{ path: '/x', hostPath: '/y' }] })) },
  { method: 'create', does: 'a bucket as a mount', run: ({ client }) => client.create(new Manifest({ entries: { b: { type: 's3_mount', bucket: 'b' } as never } })) },
  {
    method: 'create', does: 'a read-only bind mount, and a write to it', run: async ({ client, hostDir }) => {
      const session = await client.create(new Manifest({ entries: { m: mount({ source: hostDir, readOnly: true, mountStrategy: localBindMountStrategy() }) } }));
      try {
        return (await session.exec!({ cmd: 'cat m/given && (echo x > m/new) 2>/dev/null || echo not written', login: false })).stdout;
      } finally {
        await session.close?.();
      }
    }, differs: { verdict: 'better', why: 'the kernel holds it read-only' },
  },
  { method: 'exec', does: 'exit code, stdout and stderr apart', run: async ({ session }) => { const r = await session.exec({ cmd: 'echo out; sleep 0.05; echo err >&2; exit 3', login: false }); return [r.exitCode, r.stdout, r.stderr, r.output]; } },
  { method: 'exec', does: 'environment of the manifest', run: async ({ session }) => (await session.exec({ cmd: 'echo $GREETING', login: false })).stdout },
  { method: 'exec', does: 'environment of the application', run: async ({ session }) => (await session.exec({ cmd: 'echo "[$PROBE_SECRET]"', login: false })).stdout },
  { method: 'exec', does: 'workdir, and the root of the manifest as a path', run: async ({ session }) => (await session.exec({ cmd: 'pwd; cat /workspace/README.md; cd /workspace && pwd', workdir: 'bin', login: false })).stdout },
  { method: 'exec', does: 'a script that names /workspace', run: async ({ session }) => (await session.exec({ cmd: 'printf "cat /work%s\\n" space/README.md > s.sh; sh s.sh 2>/dev/null || echo missing', login: false })).stdout, differs: { verdict: 'better', why: '/workspace is a path for every program, not a word that is replaced in the command' } },
  { method: 'exec', does: 'a URL with /workspace in a quoted text', run: async ({ session }) => (await session.exec({ cmd: "echo 'see /workspace for details'", login: false })).stdout },
  { method: 'exec', does: 'workdir outside', run: ({ session }) => session.exec({ cmd: 'true', workdir: '../..' }) },
  { method: 'exec', does: '`cat` of a key in the home directory', run: async ({ session, secretFile }) => (await session.exec({ cmd: `cat ${secretFile} 2>/dev/null || echo refused`, login: false })).stdout, differs: { verdict: 'better', why: 'the session has no such file' } },
  { method: 'exec', does: 'a write outside the workspace', run: async ({ session, hostDir }) => { await session.exec({ cmd: `echo x > ${hostDir}/written`, login: false }); return existsSync(join(hostDir, 'written')); }, differs: { verdict: 'better', why: 'nothing outside can be written' } },
  { method: 'exec', does: 'a signal to the application', run: async ({ session }) => (await session.exec({ cmd: `kill -0 ${process.pid} 2>/dev/null && echo reached || echo refused`, login: false })).stdout, differs: { verdict: 'better', why: 'processes of the host are not there' } },
  { method: 'exec', does: 'a background child that keeps the output', run: async ({ session }) => { const r = await session.exec({ cmd: 'sleep 3 & echo done', login: false, yieldTimeMs: 1000 }); return [r.exitCode ?? 'still running', r.stdout]; }, differs: { verdict: 'better', why: 'the end of the command is told at once' } },
  { method: 'exec', does: 'maxOutputTokens', run: async ({ session }) => { const r = await session.exec({ cmd: 'seq 1 2000', login: false, maxOutputTokens: 50 }); return [r.output, r.originalTokenCount, r.stdout.length]; } },
  { method: 'exec', does: 'runAs of another user', run: ({ session }) => session.exec({ cmd: 'true', runAs: 'no-such-user' }), differs: { verdict: 'refused', why: 'a confined session runs as one unprivileged identity' } },
  { method: 'execCommand', does: 'words the result', run: async ({ session }) => (await session.execCommand({ cmd: 'echo hi; exit 2', login: false })).replace(/Chunk ID: .*\nWall time: .*\n/, '') },
  { method: 'execCommand', does: 'both streams, written by turns', run: async ({ session }) => output(await session.execCommand({ cmd: 'for i in 1 2 3; do echo o$i; echo e$i >&2; done', login: false })).split('\n').filter((l) => l).length },
  { method: 'execCommand', does: 'a terminal', run: async ({ session }) => (await finish(session, await session.execCommand({ cmd: 'test -t 0 && test -t 1 && echo terminal', tty: true, login: false }))).trim() },
  { method: 'writeStdin', does: 'text for a program on pipes', run: async ({ session }) => { const reply = await session.execCommand({ cmd: 'read line; echo "got $line"', login: false, yieldTimeMs: 300 }); const id = Number(/session ID (\d+)/.exec(reply)?.[1]); return output(await session.writeStdin({ sessionId: id, chars: 'word\n', yieldTimeMs: 2000 })); } },
  { method: 'writeStdin', does: 'Ctrl-C without a terminal', run: async ({ session }) => { const reply = await session.execCommand({ cmd: "trap 'echo caught; exit 5' INT; while :; do sleep 0.1; done", login: false, yieldTimeMs: 500 }); const id = Number(/session ID (\d+)/.exec(reply)?.[1]); return output(await session.writeStdin({ sessionId: id, chars: '\u0003', yieldTimeMs: 2000 })).trim(); } },
  { method: 'writeStdin', does: 'an unknown session', run: async ({ session }) => (await session.writeStdin({ sessionId: 7 })).includes('write_stdin failed: session not found: 7') },
  { method: 'readFile', does: 'bytes', run: async ({ session }) => [...(await session.readFile({ path: 'bytes' })) as Uint8Array].join(',') },
  { method: 'readFile', does: 'maxBytes', run: async ({ session }) => text(await session.readFile({ path: 'README.md', maxBytes: 3 })) },
  { method: 'readFile', does: 'a missing file', run: ({ session }) => session.readFile({ path: 'none' }), differs: { verdict: 'better', why: 'an error with the code of the SDK' } },
  { method: 'readFile', does: 'a directory', run: ({ session }) => session.readFile({ path: 'bin' }), differs: { verdict: 'better', why: 'an error with the code of the SDK' } },
  { method: 'readFile', does: '`../` and an absolute path outside', run: ({ session }) => session.readFile({ path: '../../etc/passwd' }) },
  { method: 'readFile', does: 'a link that leads outside', run: async ({ session }) => { await session.exec({ cmd: 'ln -s /etc/passwd leads', login: false }); return session.readFile({ path: 'leads' }); }, differs: { verdict: 'better', why: 'refused by both, here with a code' } },
  { method: 'listDir', does: 'names and types', run: async ({ session }) => (await session.listDir({ path: 'bin' })).map((e) => `${e.path} ${e.type}`).sort() },
  { method: 'listDir', does: 'a missing directory', run: ({ session }) => session.listDir({ path: 'none' }), differs: { verdict: 'better', why: 'an error with the code of the SDK' } },
  { method: 'pathExists', does: 'there, not there, a directory', run: async ({ session }) => [await session.pathExists('README.md'), await session.pathExists('none'), await session.pathExists('bin')] },
  { method: 'directoryExists', does: 'a file, a directory, nothing', run: async ({ session }) => [await session.directoryExists('README.md'), await session.directoryExists('/workspace/bin'), await session.directoryExists('none')] },
  { method: 'viewImage', does: 'a picture', run: async ({ session }) => { await session.materializeEntry({ path: 'p.png', entry: file({ content: new Uint8Array(png) }) }); const i = (await session.viewImage({ path: 'p.png' })).image as { mediaType: string; data: Uint8Array }; return [i.mediaType, i.data.length]; } },
  { method: 'viewImage', does: 'a text, and nothing', run: async ({ session }) => [await why(session.viewImage({ path: 'README.md' })), await why(session.viewImage({ path: 'none.png' }))] },
  { method: 'createEditor', does: 'create, update, move, delete', run: async ({ session }) => {
    const editor = session.createEditor();
    await editor.createFile({ type: 'create_file', path: 'e/new.txt', diff: '+one\n+two\n' });
    await editor.updateFile({ type: 'update_file', path: 'e/new.txt', diff: '@@\n one\n-two\n+three\n', moveTo: 'e/moved.txt' });
    const moved = text(await session.readFile({ path: 'e/moved.txt' }));
    await editor.deleteFile({ type: 'delete_file', path: '/workspace/e/moved.txt' });
    return [moved, await session.pathExists('e/new.txt'), await session.pathExists('e/moved.txt')];
  } },
  { method: 'createEditor', does: 'create over an existing file', run: ({ session }) => session.createEditor().createFile({ type: 'create_file', path: 'README.md', diff: '+x\n' }) as Promise<unknown>, differs: { verdict: 'better', why: 'refused by both, here with a code' } },
  { method: 'createEditor', does: 'a diff that does not fit', run: ({ session }) => session.createEditor().updateFile({ type: 'update_file', path: 'README.md', diff: '@@\n-nothing like it\n+x\n' }) as Promise<unknown>, differs: { verdict: 'better', why: 'the code apply_patch_invalid_diff' } },
  { method: 'createEditor', does: 'a path outside', run: ({ session }) => session.createEditor().deleteFile({ type: 'delete_file', path: '../x' }) as Promise<unknown> },
  { method: 'materializeEntry', does: 'a file over an existing one', run: async ({ session }) => { await session.materializeEntry({ path: 'again', entry: file({ content: 'one' }) }); await session.materializeEntry({ path: '/workspace/again', entry: file({ content: 'two' }) }); return text(await session.readFile({ path: 'again' })); } },
  { method: 'materializeEntry', does: 'a path outside', run: ({ session }) => session.materializeEntry({ path: '../x', entry: file({ content: '' }) }), differs: { verdict: 'better', why: 'refused by both, here with a code' } },
  { method: 'materializeEntry', does: 'a local file outside of the application', run: ({ session }) => session.materializeEntry({ path: 'x', entry: { type: 'local_file', src: '/etc/passwd' } }), differs: { verdict: 'better', why: 'refused by both, here with a code' } },
  { method: 'materializeEntry', does: 'through a link that leads outside', run: async ({ session, hostDir }) => { await session.exec({ cmd: `ln -sfn ${hostDir} away`, login: false }); return session.materializeEntry({ path: 'away/x', entry: file({ content: 'x' }) }); }, differs: { verdict: 'better', why: 'refused by both, here with a code' } },
  { method: 'applyManifest', does: 'entries and environment', run: async ({ session }) => { await session.applyManifest(new Manifest({ entries: { 'more/f': file({ content: 'more' }) }, environment: { MORE: 'm' } })); return [(await session.exec({ cmd: 'cat more/f; echo " $MORE $GREETING"', login: false })).stdout, Object.keys(session.state.manifest.entries).includes('more/f')]; } },
  { method: 'applyManifest', does: 'a further path grant', run: async ({ session, hostDir }) => { await session.applyManifest(new Manifest({ extraPathGrants: [{ path: hostDir }] })); return 'taken'; }, differs: { verdict: 'refused', why: 'grants are fixed when a session starts: the kernel holds its commands to them' } },
  { method: 'persistWorkspace, hydrateWorkspace', does: 'a round trip that removes what came later', run: async ({ session }) => { const was = await session.persistWorkspace(); await session.exec({ cmd: 'rm README.md; echo later > later', login: false }); await session.hydrateWorkspace(was); return [text(await session.readFile({ path: 'README.md' })), await session.pathExists('later')]; } },
  { method: 'persistWorkspace, hydrateWorkspace', does: 'modes, links, hard links', run: async ({ session }) => { await session.exec({ cmd: 'mkdir -p keep; echo x > keep/x; chmod 751 keep/x; ln -sf x keep/l; ln -f keep/x keep/h', login: false }); await session.hydrateWorkspace(await session.persistWorkspace()); return (await session.exec({ cmd: "cd keep && stat -c '%n %a %h' * | tr '\\n' ' '", login: false })).stdout; }, differs: { verdict: 'better', why: 'all of them come back' } },
  { method: 'setArchiveLimits', does: 'an archive over each limit', run: async ({ session }) => { const data = await session.persistWorkspace(); const out: unknown[] = []; for (const limits of [{ maxInputBytes: 10 }, { maxMembers: 1 }, { maxExtractedBytes: 1 }]) { session.setArchiveLimits(limits); out.push(await why(session.hydrateWorkspace(data), 'code')); } session.setArchiveLimits(null); return [...out, text(await session.readFile({ path: 'README.md' })).length > 0]; } },
  { method: 'resolveExposedPort', does: 'a port', run: async ({ session }) => { const e = await session.resolveExposedPort(8123); return [e.host, e.tls, session.state.exposedPorts?.['8123'] !== undefined]; } },
  { method: 'supportsPty', does: 'says so', run: async ({ session }) => session.supportsPty() },
  { method: 'stop', does: 'ends processes and keeps files', run: async ({ session }) => { await session.execCommand({ cmd: 'exec sleep 100', login: false, yieldTimeMs: 250 }); await session.stop(); return text(await session.readFile({ path: 'README.md' })).length > 0; } },
  { method: 'serializeSessionState, resume', does: 'in the same place', run: async ({ client }) => { const s = await client.create(new Manifest({ entries: { f: file({ content: 'was' }) }, environment: { KEY: 'k' } })); try { const state = await client.deserializeSessionState(JSON.parse(JSON.stringify(await client.serializeSessionState(s.state)))); const again = await client.resume(state); return text(await again.readFile!({ path: 'f' })); } finally { await s.close?.(); } } },
  { method: 'serializeSessionState, resume', does: 'after close, from the snapshot', run: async ({ client }) => { const s = await client.create(new Manifest({ entries: { f: file({ content: 'was' }) }, environment: { KEY: 'k' } })); await s.execCommand!({ cmd: 'echo edited > f', login: false }); const state = JSON.parse(JSON.stringify(await client.serializeSessionState(s.state))); await s.close?.(); const again = await client.resume(await client.deserializeSessionState(state)); try { return [text(await again.readFile!({ path: 'f' })), (await again.exec!({ cmd: 'echo $KEY', login: false })).stdout]; } finally { await again.close?.(); } } },
  { method: 'serializeSessionState', does: 'a secret of the environment in the state', run: async ({ client }) => { const s = await client.create(new Manifest({ environment: { KEY: 'sk-secret' } })); try { return JSON.stringify(await client.serializeSessionState(s.state)).includes('sk-secret') ? 'in clear' : 'sealed'; } finally { await s.close?.(); } }, differs: { verdict: 'better', why: 'sealed with a key of the machine' } },
  { method: 'resume', does: 'a state that names another directory', run: async ({ client, hostDir }) => { const s = await client.create(new Manifest({})); try { const state = JSON.parse(JSON.stringify(await client.serializeSessionState(s.state))); state.workspaceRootPath = hostDir; const again = await client.resume(await client.deserializeSessionState(state)); return (await again.exec!({ cmd: 'cat given', login: false })).stdout; } finally { await s.close?.(); } }, differs: { verdict: 'better', why: 'a changed state is refused' } },
  { method: 'close', does: 'removes the workspace; a second time does nothing', run: async ({ client }) => { const s = await client.create(new Manifest({})); await s.close?.(); await s.close?.(); return existsSync(String(s.state.workspaceRootPath)); } },
];

/** The way a promise was rejected: its code where it has one, its message for messages. */
export async function why(work: Promise<unknown>, what: 'code' | 'message' = 'message'): Promise<string> {
  try {
    await work;
    return 'no error';
  } catch (error) {
    const e = error as { code?: string; message: string; name: string };
    return what === 'code' ? (e.code ?? e.constructor.name) : e.message;
  }
}

export const home = homedir();
