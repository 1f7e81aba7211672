import { SandboxArchiveError } from '@openai/agents-core/sandbox';
import { writeTar, type TarEntry } from './tar.ts';

/**
 * The archive of the SDK's own local client (version 1: JSON with base64) as a tar, so
 * that its snapshots can be restored here; undefined for anything else.
 */
export function tarOfJSON(data: Uint8Array): Uint8Array | undefined {
  if (data[0] !== 0x7b) {
    return undefined;
  }
  let archive: { version?: unknown; directories?: unknown; files?: unknown };
  try {
    archive = JSON.parse(new TextDecoder().decode(data)) as typeof archive;
  } catch (error) {
    throw new SandboxArchiveError(`The workspace archive is damaged: ${String(error)}`);
  }
  const { version, directories, files } = archive;
  if (version !== 1 || !Array.isArray(directories) || !Array.isArray(files)) {
    throw new SandboxArchiveError('Unsupported workspace archive version.');
  }
  const members: TarEntry[] = directories.map((name) => ({ type: 'dir', name: String(name), mode: 0o755 }));
  for (const file of files as { path: unknown; data: unknown }[]) {
    members.push({ type: 'file', name: String(file.path), mode: 0o644, content: Buffer.from(String(file.data), 'base64') });
  }
  return writeTar(members);
}
