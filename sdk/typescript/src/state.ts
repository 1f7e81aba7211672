import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { SandboxConfigError } from '@openai/agents-core/sandbox';

/** The server's own directory, as its --state-dir defaults. */
export function stateDirOf(configured?: string): string {
  if (configured !== undefined) {
    return configured;
  }
  const xdg = process.env.XDG_STATE_HOME;
  if (xdg !== undefined && isAbsolute(xdg)) {
    return join(xdg, 'mcp-sandbox');
  }
  return process.platform === 'darwin'
    ? join(homedir(), 'Library', 'Application Support', 'mcp-sandbox')
    : join(homedir(), '.local', 'state', 'mcp-sandbox');
}

/**
 * The key that states are sealed with: 32 random bytes of this user on this machine.
 * A state is of no use elsewhere, as its workspace is here.
 */
async function machineKey(stateDir: string): Promise<Buffer> {
  const path = join(stateDir, 'agents.key');
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  for (let again = 0; again < 2; again++) {
    const held = await readFile(path).catch(() => undefined);
    if (held?.length === 32) {
      if (((await stat(path)).mode & 0o077) !== 0) {
        throw new SandboxConfigError(`The key ${path} is open to others; make it readable by its owner alone.`);
      }
      return held;
    }
    try {
      const file = await open(path, 'wx', 0o600);
      try {
        await file.write(randomBytes(32));
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw error;
      }
      // Another process makes it at this moment.
      await new Promise((done) => setTimeout(done, 100));
    }
  }
  const held = await readFile(path);
  if (held.length !== 32) {
    throw new SandboxConfigError(`The key ${path} is damaged; remove it, and with it every state that it sealed.`);
  }
  return held;
}

/** Encrypts secret and binds it to open, which stays readable: changing it is noticed. */
export async function seal(stateDir: string, open: unknown, secret: unknown): Promise<string> {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', await machineKey(stateDir), iv);
  cipher.setAAD(Buffer.from(JSON.stringify(open)));
  const body = Buffer.concat([cipher.update(JSON.stringify(secret), 'utf8'), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), body]).toString('base64');
}

/** Reverses seal. Throws SandboxConfigError for a state of another machine, or a changed one. */
export async function unseal(stateDir: string, open: unknown, sealed: string): Promise<unknown> {
  const all = Buffer.from(sealed, 'base64');
  const key = await machineKey(stateDir);
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, all.subarray(0, 12));
    decipher.setAAD(Buffer.from(JSON.stringify(open)));
    decipher.setAuthTag(all.subarray(12, 28));
    return JSON.parse(Buffer.concat([decipher.update(all.subarray(28)), decipher.final()]).toString('utf8'));
  } catch {
    throw new SandboxConfigError('The sandbox session state was changed, or comes from another user or machine; create a new session.');
  }
}
