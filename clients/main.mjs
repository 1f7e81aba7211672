// Drives every client against the built server and says what works.
// usage: node main.mjs BINARY DIR [--write] [--only=NAME]; ./run prepares it.
import fs from 'node:fs';
import path from 'node:path';
import { agents, runAgent } from './agents/agents.mjs';
import { compareGolden } from './agents/golden.mjs';
import { cases } from './lib/cases.mjs';
import { Expectations } from './lib/expectations.mjs';
import { listedTools } from './lib/listing.mjs';
import { runSuite } from './lib/suite.mjs';
import { compareTable, renderTable } from './lib/table.mjs';

const args = process.argv.slice(2);
const [bin, dir] = args.filter(a => !a.startsWith('--'));
const write = args.includes('--write');
const only = args.find(a => a.startsWith('--only='))?.slice('--only='.length).toLowerCase();
const doc = path.join(process.env.CLIENTS_DIR, '..', 'docs', 'clients.md');

// Suites wait more than they compute; agents mostly compute.
const atOnce = 6;

const adapters = (await Promise.all(['typescript', 'gosdk', 'frameworks', 'bridges', 'commands'].map(n => import(`./adapters/${n}.mjs`)))).flatMap(m => m.default);

function versionOf(client) {
  if (client.module) return fs.readFileSync(path.join(process.env.CLIENTS_DIR, 'gosdk/go.mod'), 'utf8').match(`${client.module} v(\\S+)`)[1];
  return JSON.parse(fs.readFileSync(path.join(process.env.CLIENTS_DIR, 'package.json'))).dependencies[client.package];
}

const expectations = new Expectations();
const tools = await listedTools(bin, path.join(dir, 'listing'));
const complaints = [];
const rows = [];
const jobs = [];
const readings = [];
for (const client of [...agents, ...adapters]) {
  for (const transport of client.transports) {
    if (only && !`${client.name} ${transport}`.toLowerCase().includes(only)) continue;
    const row = { client: client.name, version: versionOf(client), transport, cells: {} };
    rows.push(row);
    jobs.push(async () => {
      const began = Date.now();
      const where = { transport, bin, dir: path.join(dir, String(rows.indexOf(row))), tools: tools(transport) };
      let results = {};
      try {
        if (client.prepare) {
          const ran = await runAgent({ agent: client, ...where });
          results = ran.results;
          readings.push({ client, transport, text: ran.text });
        } else {
          results = await runSuite({ adapter: client, skip: name => expectations.skips(client.name, transport, name), ...where });
        }
      } catch (e) {
        complaints.push(`${client.name}, ${transport}: ${e.message}`);
      }
      let passed = 0;
      for (const name of Object.keys(cases)) {
        expectations.skips(client.name, transport, name);
        const verdict = expectations.verdict(client.name, transport, name, results[name]);
        if (verdict.complaint) complaints.push(verdict.complaint);
        row.cells[name] = verdict;
        if (results[name]?.ok) passed++;
      }
      console.log(`${client.name} ${row.version}, ${transport}: ${passed} of ${Object.keys(results).length} cases pass, ${Math.round((Date.now() - began) / 1000)} s`);
    });
  }
}
if (!jobs.length) complaints.push(`no client is called ${only}`);

const total = jobs.length;
await Promise.all(Array.from({ length: atOnce }, async () => {
  for (let job; (job = jobs.shift());) await job();
}));

// The golden file is what the model reads over stdio; other transports follow.
readings.sort((a, b) => (b.transport === 'stdio') - (a.transport === 'stdio'));
for (const { client, transport, text } of readings) {
  const wrong = compareGolden(client, transport, text, write);
  if (wrong) complaints.push(wrong);
}
if (!only) complaints.push(...expectations.unused());
if (!complaints.length && !only) {
  const order = ['TypeScript', 'Go', '@', 'Inspector', 'mcp-remote', 'supergateway', 'Claude', 'Codex', 'Gemini', 'opencode'];
  const place = r => order.findIndex(o => r.client.startsWith(o));
  rows.sort((a, b) => place(a) - place(b));
  const wrong = compareTable(doc, renderTable(rows), write);
  if (wrong) complaints.push(wrong);
}
for (const c of complaints) console.error(`FAILED ${c}`);
console.log(`${total} clients and transports, ${complaints.length} complaints`);
process.exit(complaints.length ? 1 : 0);
