/**
 * Runs the probes on UnixLocalSandboxClient and on ConfinedSandboxClient and compares.
 * usage: node compare.ts [--write FILE | --check FILE] [--url URL]
 *   --write FILE  puts the tables between the marks of FILE
 *   --check FILE  compares with the table there
 * Ends with 1 when the two differ where they should not, or as the table does not say.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Manifest } from '@openai/agents/sandbox';
import { UnixLocalSandboxClient } from '@openai/agents/sandbox/local';
import { ConfinedSandboxClient } from './src/index.ts';
import { probes, type World } from './probes.ts';

const manifest = new Manifest({
  entries: {
    'README.md': { type: 'file', content: '# Probe\n', permissions: '-rw-r--r--' },
    bin: { type: 'dir', children: { run: { type: 'file', content: '#!/bin/sh\necho ran\n' } } },
    bytes: { type: 'file', content: new Uint8Array([0, 255, 10, 128]) },
  },
  environment: { GREETING: 'hello' },
});

const option = (name: string) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? undefined : process.argv[at + 1];
};

type Outcome = { text: string; threw: boolean };

async function outcomes(client: World['client']): Promise<Outcome[]> {
  const hostDir = mkdtempSync(join(tmpdir(), 'probe-host-'));
  writeFileSync(join(hostDir, 'given'), 'given\n');
  const secretFile = join(hostDir, 'id_rsa');
  writeFileSync(secretFile, 'PRIVATE\n');
  const out: Outcome[] = [];
  const session = (await client.create(manifest)) as World['session'];
  try {
    for (const probe of probes) {
      try {
        const value = await probe.run({ client, session, secretFile, hostDir, manifest });
        out.push({ text: typeof value === 'string' ? value : JSON.stringify(value), threw: false });
      } catch (error) {
        const e = error as { code?: string; constructor: { name: string } };
        out.push({ text: e.code ?? e.constructor.name, threw: true });
      }
    }
  } finally {
    await session.close();
    rmSync(hostDir, { recursive: true, force: true });
  }
  return out;
}

/** Milliseconds of a round trip: the median of several rounds, the two by turns. */
async function roundTrips(clients: World['client'][], runs: { name: string; run(s: World['session']): Promise<unknown> }[]): Promise<number[][]> {
  const sessions = await Promise.all(clients.map(async (c) => (await c.create(manifest)) as World['session']));
  const out: number[][] = [];
  for (const { run } of runs) {
    const times: number[][] = sessions.map(() => []);
    for (let round = 0; round < 40; round++) {
      for (const [i, session] of sessions.entries()) {
        const began = performance.now();
        await run(session);
        times[i]!.push(performance.now() - began);
      }
    }
    out.push(times.map((t) => t.sort((a, b) => a - b)[Math.floor(t.length / 2)]!));
  }
  await Promise.all(sessions.map((s) => s.close()));
  return out;
}

const cell = (o: Outcome) => {
  const short = o.text.trim().replaceAll('|', '\\|').replaceAll('\n', '⏎');
  return (o.threw ? 'refused: ' : '') + '`' + (short.length > 60 ? `${short.slice(0, 57)}...` : short || ' ').replaceAll('`', "'") + '`';
};

process.env.PROBE_SECRET = 'of the application';
const url = option('--url');
const reference = new UnixLocalSandboxClient() as unknown as World['client'];
const ours = new ConfinedSandboxClient(url === undefined ? {} : { url }) as unknown as World['client'];
const [theirs, mine] = [await outcomes(reference), await outcomes(ours)];
let failed = 0;
const count = { same: 0, better: 0, refused: 0 };
const rows = ['| Method | Tried | UnixLocalSandboxClient | ConfinedSandboxClient | |', '|---|---|---|---|---|'];
for (const [i, probe] of probes.entries()) {
  const [a, b] = [theirs[i]!, mine[i]!];
  const equal = a.text === b.text && a.threw === b.threw;
  const verdict = equal ? 'same' : (probe.differs?.verdict ?? 'DIFFERS');
  if (verdict === 'DIFFERS') {
    failed++;
    console.error(`${probe.method}, ${probe.does}:\n  reference ${JSON.stringify(a)}\n  confined  ${JSON.stringify(b)}`);
  } else {
    count[verdict]++;
  }
  rows.push(`| \`${probe.method}\` | ${probe.does} | ${cell(a)} | ${cell(b)} | ${equal ? 'same' : `${verdict}: ${probe.differs?.why ?? ''}`} |`);
}
console.log(`${probes.length} probes: ${count.same} same, ${count.better} better, ${count.refused} refused, ${failed} differ`);

const between = (text: string, name: string): [number, number] => {
  const begin = `<!-- ${name} -->\n`;
  return [text.indexOf(begin) + begin.length, text.indexOf(`<!-- end of the ${name} -->`)];
};

const check = option('--check');
if (check !== undefined) {
  const text = readFileSync(check, 'utf8');
  const written = text.slice(...between(text, 'probes')).trimEnd().split('\n');
  for (const [i, row] of rows.entries()) {
    if (written[i] !== row) {
      failed++;
      console.error(`${check} says\n  ${written[i]}\nand it is\n  ${row}`);
    }
  }
}

if (!process.argv.includes('--no-time')) {
  const runs = [
    { name: '`exec` of `true`', run: (s: World['session']) => s.exec({ cmd: 'true' }) },
    { name: '`exec` of `true` without a login shell', run: (s: World['session']) => s.exec({ cmd: 'true', login: false, shell: '/bin/sh' }) },
    { name: '`execCommand` of `ls`', run: (s: World['session']) => s.execCommand({ cmd: 'ls' }) },
    { name: '`readFile` of 1 KB', run: (s: World['session']) => s.readFile({ path: 'README.md' }) },
    { name: '`pathExists`', run: (s: World['session']) => s.pathExists('README.md') },
  ];
  const times = await roundTrips([reference, ours], runs);
  const table = ['| Round trip, ms | UnixLocalSandboxClient | ConfinedSandboxClient | Ratio |', '|---|---|---|---|'];
  for (const [i, { name }] of runs.entries()) {
    const [a, b] = times[i] as [number, number];
    table.push(`| ${name} | ${a.toFixed(1)} | ${b.toFixed(1)} | ${(b / a).toFixed(2)} |`);
  }
  console.log(table.join('\n'));
  const doc = option('--write');
  if (doc !== undefined && failed === 0) {
    let text = readFileSync(doc, 'utf8');
    for (const [name, lines] of [['probes', rows], ['round trips', table]] as const) {
      const [begin, end] = between(text, name);
      text = `${text.slice(0, begin)}${lines.join('\n')}\n${text.slice(end)}`;
    }
    writeFileSync(doc, text);
  }
}
process.exit(failed === 0 ? 0 : 1);
