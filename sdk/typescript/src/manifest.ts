import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { lstat, mkdtemp, open, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import {
  isMount,
  normalizeRelativePath,
  permissionsForSandboxEntry,
  SandboxGitCloneError,
  SandboxGitCopyError,
  SandboxGitMissingInImageError,
  SandboxGitSubpathError,
  SandboxLocalDirReadError,
  SandboxLocalFileReadError,
  SandboxUnsupportedFeatureError,
  type Entry,
  type GitRepo,
  type Manifest,
  type SandboxPathGrant,
} from '@openai/agents-core/sandbox';
import { isHostPathWithinRoot } from '@openai/agents-core/sandbox/internal';
import type { TarEntry } from './tar.ts';

const run = promisify(execFile);
const gitMs = 5 * 60_000;

/** Refuses what no session here can have, before anything is made. */
export function assertManifestSupported(manifest: Manifest): void {
  if (manifest.users.length > 0 || manifest.groups.length > 0) {
    throw new SandboxUnsupportedFeatureError(
      'Manifest users and groups are not supported: a confined session runs as one unprivileged identity.',
    );
  }
  for (const grant of manifest.extraPathGrants) {
    if (grant.hostPath !== undefined) {
      throw new SandboxUnsupportedFeatureError(
        `The path grant "${grant.path}" has a hostPath: a granted path is found at the same path inside.`,
        { feature: 'manifest.extraPathGrants.hostPath', path: grant.path },
      );
    }
  }
  for (const { logicalPath, entry } of manifest.iterEntries()) {
    assertEntrySupported(logicalPath, entry);
  }
}

function assertEntrySupported(path: string, entry: Entry): void {
  if (entry.group !== undefined) {
    throw new SandboxUnsupportedFeatureError(
      `The entry "${path}" has a group: a confined session runs as one unprivileged identity.`,
    );
  }
  if (isMount(entry) && bindSource(entry) === undefined) {
    throw new SandboxUnsupportedFeatureError(
      `The entry "${path}" is a mount of type ${entry.type}: only local bind mounts with an absolute source are supported.`,
    );
  }
}

/** The source of a local bind mount, undefined for every other kind of mount. */
export function bindSource(entry: Entry): string | undefined {
  if (entry.type !== 'mount' || typeof entry.source !== 'string' || !entry.source.startsWith('/')) {
    return undefined;
  }
  return entry.mountStrategy === undefined || entry.mountStrategy.type === 'local_bind' ? entry.source : undefined;
}

/** What a session must be granted for a manifest: its grants, and its bind mounts. */
export function grantsOf(manifest: Manifest): { read: string[]; write: string[] } {
  const read: string[] = [];
  const write: string[] = [];
  for (const grant of manifest.extraPathGrants) {
    (grant.readOnly ? read : write).push(grant.path);
  }
  for (const { entry } of manifest.mountTargets()) {
    const source = bindSource(entry);
    if (source !== undefined) {
      (entry.readOnly === false ? write : read).push(source);
    }
  }
  return { read, write };
}

/** Reads everything that entries name and lists it as members of an archive. */
export async function archiveOf(
  entries: Record<string, Entry>,
  grants: SandboxPathGrant[],
  prefix = '',
): Promise<TarEntry[]> {
  const out: TarEntry[] = [];
  for (const [path, entry] of Object.entries(entries)) {
    const name = [prefix, normalizeRelativePath(path)].filter((part) => part !== '').join('/');
    out.push(...(await membersOf(name, entry, grants)));
  }
  return out;
}

async function membersOf(name: string, entry: Entry, grants: SandboxPathGrant[]): Promise<TarEntry[]> {
  assertEntrySupported(name, entry);
  const mode = permissionsForSandboxEntry(entry.permissions).toMode() & 0o777;
  switch (entry.type) {
    case 'file':
      return [{ type: 'file', name, mode, content: bytesOf(entry.content) }];
    case 'dir':
      return [
        ...(name === '' ? [] : [{ type: 'dir' as const, name, mode }]),
        ...(await archiveOf(entry.children ?? {}, grants, name)),
      ];
    case 'local_file':
      return [{ type: 'file', name, mode, content: await readSource(sourcePath('local_file', entry.src, grants), 'local_file') }];
    case 'local_dir':
      return [{ type: 'dir', name, mode }, ...(await readTree(sourcePath('local_dir', entry.src, grants), name))];
    case 'git_repo':
      return await cloneOf(name, entry, mode);
    default:
      return [{ type: 'link', name, target: bindSource(entry) as string }];
  }
}

function bytesOf(content: string | Uint8Array): Uint8Array {
  return typeof content === 'string' ? new TextEncoder().encode(content) : content;
}

/** Sources are trusted where the application runs, and nowhere else. */
function sourcePath(type: string, src: string, grants: SandboxPathGrant[]): string {
  const base = process.cwd();
  const path = resolve(base, src);
  if (isHostPathWithinRoot(base, path) || grants.some((grant) => isHostPathWithinRoot(resolve(grant.path), path))) {
    return path;
  }
  const Refused = type === 'local_dir' ? SandboxLocalDirReadError : SandboxLocalFileReadError;
  throw new Refused(`${type} source must stay within the local source base directory or manifest.extraPathGrants: ${path} (base: ${base})`, {
    reason: 'outside_base_dir',
    path,
  });
}

/** A link could lead to what was not meant to be copied. */
async function refuseLinks(path: string, type: 'local_file' | 'local_dir'): Promise<void> {
  const Refused = type === 'local_dir' ? SandboxLocalDirReadError : SandboxLocalFileReadError;
  for (let at = path; dirname(at) !== at; at = dirname(at)) {
    const info = await lstat(at).catch((error: unknown) => {
      throw new Refused(`${type} source cannot be read: ${path}`, { reason: 'path_not_found', path, cause: String(error) });
    });
    // The top of a system may be a link, as /tmp of macOS is.
    if (info.isSymbolicLink() && dirname(dirname(at)) !== dirname(at)) {
      const what = at === path ? 'symbolic links' : 'symbolic link ancestors';
      throw new Refused(`${type} entries do not support ${what}: ${path}`, { reason: 'symlink_not_supported', path });
    }
  }
}

async function readSource(path: string, type: 'local_file' | 'local_dir'): Promise<Uint8Array> {
  await refuseLinks(path, type);
  const Refused = type === 'local_dir' ? SandboxLocalDirReadError : SandboxLocalFileReadError;
  let handle;
  try {
    // A FIFO is not waited for.
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if (!(await handle.stat()).isFile()) {
      throw new Refused(`${type} source is not a file: ${path}`, { reason: 'not_a_file', path });
    }
    return await handle.readFile();
  } catch (error) {
    if (error instanceof Refused) {
      throw error;
    }
    throw new Refused(`${type} source cannot be read: ${path}`, { path, cause: String(error) });
  } finally {
    await handle?.close();
  }
}

async function readTree(path: string, name: string, git = false): Promise<TarEntry[]> {
  if (!git) {
    await refuseLinks(path, 'local_dir');
  }
  const out: TarEntry[] = [];
  let children;
  try {
    children = await readdir(path, { withFileTypes: true });
  } catch (error) {
    throw new SandboxLocalDirReadError(`local_dir source cannot be read: ${path}`, { path, cause: String(error) });
  }
  for (const child of children) {
    const at = join(path, child.name);
    const below = `${name}/${child.name}`;
    if (child.isDirectory()) {
      out.push({ type: 'dir', name: below, mode: 0o755 }, ...(await readTree(at, below, git)));
    } else if (child.isFile()) {
      const mode = (await lstat(at)).mode & 0o777;
      out.push({ type: 'file', name: below, mode, content: await readSource(at, 'local_dir') });
    } else if (child.isSymbolicLink() && git) {
      // It leads where git says, for what runs in the sandbox alone.
      out.push({ type: 'link', name: below, target: await readlink(at) });
    } else if (child.isSymbolicLink()) {
      throw new SandboxLocalDirReadError(`local_dir entries do not support symbolic links: ${at}`, { reason: 'symlink_not_supported', path: at });
    }
  }
  return out;
}

/** Clones on the host, as the SDK does for its local client, and copies files alone. */
async function cloneOf(name: string, entry: GitRepo, mode: number): Promise<TarEntry[]> {
  await run('git', ['--version']).catch(() => {
    throw new SandboxGitMissingInImageError('git_repo entries require a local `git` executable, but `git` was not found.');
  });
  const ref = entry.ref;
  if (ref?.startsWith('-') || entry.repo.startsWith('-')) {
    throw new SandboxGitCloneError(`git_repo entry "${name}" has a ref or repo that begins with a dash.`);
  }
  const subpath = entry.subpath === undefined ? '' : subpathOf(name, entry.subpath);
  const url = /^[a-z][a-z0-9+.-]*:\/\//.test(entry.repo) || entry.repo.startsWith('/')
    ? entry.repo
    : `https://${entry.host ?? 'github.com'}/${entry.repo}.git`;
  const work = await mkdtemp(join(tmpdir(), 'mcp-sandbox-git-'));
  try {
    const git = (...args: string[]) =>
      run('git', ['-c', 'protocol.ext.allow=never', ...args], { timeout: gitMs, env: { ...process.env, GIT_TERMINAL_PROMPT: '0' } });
    const into = join(work, 'clone');
    try {
      if (ref !== undefined && /^[0-9a-fA-F]{7,40}$/.test(ref)) {
        await git('clone', '--quiet', '--no-checkout', '--', url, into);
        await git('-C', into, 'checkout', '--quiet', '--detach', ref);
      } else {
        await git('clone', '--quiet', '--depth', '1', ...(ref === undefined ? [] : ['--branch', ref]), '--', url, into);
      }
    } catch (error) {
      throw new SandboxGitCloneError(`Failed to materialize git_repo entry ${entry.repo}: ${String(error)}`, { repo: entry.repo });
    }
    try {
      return [{ type: 'dir', name, mode }, ...(await readTree(join(into, subpath), name, true))];
    } catch (error) {
      throw new SandboxGitCopyError(`git_repo entry "${name}" could not be copied: ${String(error)}`, { repo: entry.repo });
    }
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function subpathOf(name: string, subpath: string): string {
  try {
    return normalizeRelativePath(subpath);
  } catch (error) {
    throw new SandboxGitSubpathError(`git_repo entry "${name}" has a subpath that leads out of it: ${subpath}`, { cause: String(error) });
  }
}
